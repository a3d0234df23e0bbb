//! What a user does beyond reading and committing, and how it comes to rest in the end.

use super::*;

impl User {
    pub(super) fn seek(&mut self, world: &mut World, oracle: &mut Oracle, tp: &TopicPartition, to: Sought) {
        // Refused if it is not owned, or being revoked: then nothing has changed.
        self.command(world, oracle, Command::Seek(tp.clone(), to.place()), Asked::Seek(tp.clone(), to));
    }

    /// Anything.
    pub(super) fn whim(&mut self, world: &mut World, oracle: &mut Oracle) {
        let owned = world.member(self.id).owned();
        let any = |rng: &mut Rng| -> Option<TopicPartition> {
            owned.get(rng.below(owned.len() as u64) as usize).cloned()
        };
        match self.rng.below(if self.style.fickle { 18 } else { 15 }) {
            15 | 16 => self.changes_its_mind(world, oracle),
            14 if self.rng.below(4) == 0 => {
                self.comes_again = true;
                self.close(world, oracle);
            }
            0 | 1 => {
                let Some(tp) = any(&mut self.rng) else { return };
                self.pause(world, oracle, vec![tp], true);
            }
            2..=4 => {
                let paused = world.member(self.id).delivery.lock().paused();
                self.pause(world, oracle, paused, false);
            }
            // Resuming what is not paused changes nothing.
            5 => self.pause(world, oracle, owned.clone(), false),
            6 | 7 => {
                let Some(tp) = any(&mut self.rng) else { return };
                let Some(position) = oracle.known_position(self.id, &tp) else { return };
                let back = self.rng.below(50) as i64;
                let to = match self.rng.below(5) {
                    0 => Sought::Beginning,
                    1 => Sought::Committed,
                    2 => Sought::At(position),
                    _ => Sought::At((position - back).max(0)),
                };
                if self.rng.below(3) == 0 {
                    self.pause(world, oracle, vec![tp.clone()], true);
                    self.seek(world, oracle, &tp, to);
                    self.pause(world, oracle, vec![tp], false);
                } else {
                    self.seek(world, oracle, &tp, to);
                }
            }
            8 => {
                self.drop_all(oracle);
                self.unsubscribed = true;
                self.note(world, || What::Subscribed { logged: true });
                self.command(world, oracle, Command::Unsubscribe, Asked::Unsubscribe);
                let pause = Duration::from_millis(self.rng.below(3000));
                self.next = Some(world.now() + pause.max(Duration::from_micros(1)));
            }
            9 => self.command(world, oracle, Command::Committed(owned), Asked::Committed),
            10 => {
                let mut high = |tp: &TopicPartition| {
                    let high = world.cluster.high_watermark(tp.topic(), tp.partition()).unwrap_or(0);
                    high.min(oracle.log(tp).stable_end())
                };
                let least = owned.iter().map(|tp| (tp.clone(), high(tp))).collect();
                let places = owned.into_iter().map(|tp| (tp, Offset::Latest)).collect();
                self.command(world, oracle, Command::ListOffsets(places), Asked::Ends(least));
            }
            11 => self.command(world, oracle, Command::PartitionCounts(self.topics.clone()), Asked::Other),
            _ => {
                for tp in owned {
                    let delivery = world.member(self.id).delivery.lock();
                    let told = delivery.position(&tp).zip(delivery.ownership(&tp));
                    drop(delivery);
                    if let Some((position, epoch)) = told {
                        oracle.position(self.id, &tp, epoch, position);
                    }
                }
            }
        }
    }

    pub(super) fn pause(
        &mut self,
        world: &mut World,
        oracle: &mut Oracle,
        tps: Vec<TopicPartition>,
        yes: bool,
    ) {
        let command = if yes { Command::Pause(tps.clone()) } else { Command::Resume(tps.clone()) };
        self.command(world, oracle, command, Asked::Sure);
        for tp in tps {
            oracle.paused(self.id, &tp, yes);
        }
    }

    /// From now on it does nothing but read, and quickly.
    pub(crate) fn hurry(&mut self) {
        self.free = false;
        self.slowness = 1;
        self.style.work = self.style.work.min(5_000);
        self.style.batch = self.style.batch.max(20);
        if let Reads::Gathered(wait) = &mut self.style.reads {
            *wait = (*wait).min(5);
        }
    }

    /// From now on it only reads, so that what is there is read in the end.
    pub(crate) fn calm(&mut self, world: &mut World, oracle: &mut Oracle) {
        if !self.free || self.over || self.closing {
            return;
        }
        self.hurry();
        if self.narrowed && !self.unsubscribed {
            self.narrowed = false;
            self.subscribe_to(world, oracle, self.topics.clone());
        }
        let paused = world.member(self.id).delivery.lock().paused();
        self.pause(world, oracle, paused, false);
        let now = world.now();
        self.next = Some(self.next.map_or(now, |at| at.min(now)));
    }
}
