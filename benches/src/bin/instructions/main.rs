//! Work for an instruction counter: `bench-instructions WHAT CODEC FRAMES [VALUE_BYTES]` delivers or walks so many frames.
//! The difference of two runs is what the frames cost. `cargo xtask bench gate` runs it.

use ottla_benches::steady::Steady;
use ottla_benches::walk::Walker;
use ottla_benches::{Result, Touch, data};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, codec, frames, value_bytes @ ..] = &arguments[..] else {
        return Err("what, codec and frames".into());
    };
    let value_bytes = value_bytes.first().map_or(Ok(100), |bytes| bytes.parse())?;
    let mut steady = Steady::new(value_bytes, data::codec(codec).ok_or("no such codec")?)?;
    let mut walker = Walker::default();
    let mut touch = Touch::default();
    for _ in 0..frames.parse::<u64>()? {
        // Made in both cases, and so in the difference of the two.
        let frame = steady.frame();
        match what.as_str() {
            "deliver" => steady.pass(frame, &mut touch)?,
            "floor" => walker.walk(&frame, &mut touch)?,
            "frame" => drop(frame),
            _ => return Err("deliver, floor or frame".into()),
        }
    }
    println!("{} {}", steady.frame_records(), touch.checksum);
    Ok(())
}
