//! How a user reads: batches, records one by one, several batches at once, each partition on its own.

use ottla_core::delivery::{Filter, Gathered, PartitionEnd, Taken};

use super::*;

/// Most records that one who reads record by record takes before somebody else has a turn.
const IN_A_ROW: usize = 24;

impl User {
    pub(super) fn read(&mut self, world: &mut World, oracle: &mut Oracle) {
        let now = world.now();
        // Whoever finds something comes again.
        let wait = match self.style.reads {
            Reads::Batches => {
                oracle.came_back(self.id, None);
                let max_records = self.style.batch;
                let filter = Filter { events: self.style.events, partition: None, max_records };
                let taken = world.member(self.id).take(now, filter);
                self.taken(world, oracle, taken)
            }
            Reads::Records => self.read_records(world, oracle),
            Reads::Gathered(wait) => self.gather(world, oracle, Duration::from_millis(wait)),
            Reads::Partitions => self.read_partitions(world, oracle),
        };
        match wait {
            Some(wait) if !self.failed => self.next = Some(now + wait.max(Duration::from_micros(1))),
            _ => self.next = None,
        }
        world.tend(self.id);
    }

    /// How long what was given keeps it busy; none if it was nothing.
    fn taken(&mut self, world: &mut World, oracle: &mut Oracle, taken: Taken) -> Option<Duration> {
        let now = world.now();
        let mut wait = Duration::ZERO;
        match taken {
            Taken::Pending => {
                oracle.found_nothing(now, self.id);
                return None;
            }
            Taken::Batch(batch) => wait = self.take(world, oracle, Given::Batch(batch)),
            Taken::Record(record) => wait = self.take(world, oracle, Given::Record(record)),
            Taken::Event(event) => wait = self.event(world, oracle, event),
            Taken::Error(error) => {
                world.trace.line(now, self.id, || format!("is told: {error}"));
                self.error(world, oracle, &error);
            }
            Taken::End => oracle.fail("L1", format!("{} is told the end, which nobody asked for", self.id)),
        }
        Some(wait)
    }

    fn read_records(&mut self, world: &mut World, oracle: &mut Oracle) -> Option<Duration> {
        let now = world.now();
        let mut busy = Duration::ZERO;
        for number in 0..IN_A_ROW {
            oracle.came_back(self.id, None);
            let taken = world.member(self.id).take_record(now);
            let record = matches!(taken, Taken::Record(_));
            match self.taken(world, oracle, taken) {
                Some(wait) => busy += wait / IN_A_ROW as u32,
                None if number == 0 => return None,
                // It has something to do before it asks again.
                None => break,
            }
            if !record || self.failed {
                break;
            }
            if self.style.commits == Commits::Auto {
                self.finish_work(world, oracle);
            }
        }
        Some(busy)
    }

    fn gather(&mut self, world: &mut World, oracle: &mut Oracle, wait: Duration) -> Option<Duration> {
        let now = world.now();
        if self.gathering.is_none() {
            oracle.came_back(self.id, None);
        }
        let most = self.style.batch.min(100);
        let mut gathering = self.gathering.take().unwrap_or_else(|| Gathering::new(most, wait));
        match world.member(self.id).gather(now, &mut gathering) {
            Gathered::Pending => {
                self.gathering = Some(gathering);
                oracle.found_nothing(now, self.id);
                None
            }
            Gathered::Batches(batches) => {
                let mut busy = Duration::from_micros(1);
                for batch in batches {
                    busy += self.take(world, oracle, Given::Batch(batch));
                }
                Some(busy)
            }
            Gathered::Error(error) => self.taken(world, oracle, Taken::Error(error)),
            Gathered::End => self.taken(world, oracle, Taken::End),
        }
    }

    /// As `run_partitioned` does: events and errors for one, data for each partition's own reader.
    fn read_partitions(&mut self, world: &mut World, oracle: &mut Oracle) -> Option<Duration> {
        let now = world.now();
        let mut busy = None;
        let for_all = Filter { events: false, partition: None, max_records: 0 };
        loop {
            let taken = world.member(self.id).take(now, for_all);
            if matches!(taken, Taken::Pending) {
                break;
            }
            busy = self.taken(world, oracle, taken);
            if self.failed || oracle.violation().is_some() {
                return busy;
            }
        }
        let claimed = world.member(self.id).delivery.lock().claim();
        self.tasks.extend(claimed);
        for tp in self.tasks.clone() {
            // Each goes at its own pace.
            if self.free && self.rng.below(4) == 0 {
                busy.get_or_insert(Duration::from_millis(1));
                continue;
            }
            oracle.came_back(self.id, Some(&tp));
            let filter = Filter { events: false, partition: Some(&tp), max_records: self.style.batch };
            let taken = world.member(self.id).take(now, filter);
            match taken {
                Taken::Pending => {}
                Taken::End => {
                    let end = world.member(self.id).delivery.lock().partition_end(&tp);
                    world.trace.line(now, self.id, || format!("reads {tp} no more: {end:?}"));
                    if end == Some(PartitionEnd::Shutdown) || end.is_none() {
                        oracle.fail("L1", format!("{} is told that {tp} ends: {end:?}", self.id));
                    }
                    self.drop_those_of(oracle, &tp);
                    self.tasks.retain(|task| *task != tp);
                    world.member(self.id).delivery.lock().release(now, &tp, true);
                    busy.get_or_insert(Duration::ZERO);
                }
                taken => {
                    let wait = self.taken(world, oracle, taken).unwrap_or_default();
                    busy = Some(busy.unwrap_or_default().max(wait));
                }
            }
        }
        if busy.is_none() {
            oracle.found_nothing(now, self.id);
        }
        busy
    }

    /// Its tasks return.
    pub(super) fn end_tasks(&mut self, world: &mut World, oracle: &mut Oracle) {
        let now = world.now();
        for tp in std::mem::take(&mut self.tasks) {
            oracle.came_back(self.id, Some(&tp));
            world.member(self.id).delivery.lock().release(now, &tp, true);
        }
    }

    fn drop_those_of(&mut self, oracle: &mut Oracle, tp: &TopicPartition) {
        let mut others = VecDeque::new();
        while let Some(held) = self.held.pop_front() {
            if held.batch.topic_partition() == tp {
                self.let_go(oracle, held);
            } else {
                others.push_back(held);
            }
        }
        self.held = others;
    }

    fn take(&mut self, world: &mut World, oracle: &mut Oracle, given: Given) -> Duration {
        let now = world.now();
        let tp = given.topic_partition().clone();
        let high = world.cluster.high_watermark(tp.topic(), tp.partition()).unwrap_or(i64::MAX);
        self.next_batch += 1;
        let number = self.next_batch;
        let before = oracle.known_position(self.id, &tp);
        let (first, next, epoch) = (given.first_offset(), given.next_offset(), given.epoch());
        let seen = given.seen();
        world.trace.line(now, self.id, || {
            let count = seen.len();
            format!("is given {tp} {first}..{next} ({count} records, ownership {epoch})")
        });
        world.trace.number(first as u64);
        world.trace.number(next as u64);
        self.note_poll(world, &given);
        oracle.handed(now, self.id, &tp, (epoch, next), (number, high), &seen);
        let range = (before.unwrap_or(first).min(first), next);
        self.held.push_back(Held { batch: given, number, range });
        let work = self.rng.below(self.style.work.max(1)) * u64::from(self.slowness);
        // One that works on a copy lets go at once, long before it comes back.
        if self.style.commits == Commits::Auto && self.style.keep == 0 && number.is_multiple_of(3) {
            self.drop_all(oracle);
        }
        Duration::from_micros(work)
    }
}
