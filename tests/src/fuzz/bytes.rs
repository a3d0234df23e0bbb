//! The whole client: against a broker that lies in the fields of its answers, and against any bytes.

use super::client::Rig;
use super::input::Input;

/// A broker that is honest or lies in what it answers, any order of events, and a user who does anything: nothing is
/// handed out twice or out of order, an honest broker's records are read without a gap and to their end, and closing
/// ends in time.
pub fn answers(data: &[u8]) {
    let mut input = Input(data);
    let mut rig = Rig::new(&mut input);
    rig.run(&mut input, false);
    if rig.is_honest() {
        rig.heal();
    }
    rig.close();
}

/// The same with bytes of any kind among the answers: no panic, no loop, bounded memory, and closing ends in time.
pub fn script(data: &[u8]) {
    let mut input = Input(data);
    let mut rig = Rig::new(&mut input);
    rig.distrust();
    rig.run(&mut input, true);
    rig.close();
}
