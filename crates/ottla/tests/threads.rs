//! No thread is left behind. In a process of its own: threads are counted in all of it.
#![cfg(target_os = "linux")]

use std::thread;
use std::time::{Duration, Instant};

use ottla::Consumer;

#[test]
fn no_thread_is_left_after_close_or_drop() {
    // Port 1 refuses; the name needs a thread to be resolved.
    let consumers: Vec<Consumer> = (0..6)
        .map(|_| {
            let builder = Consumer::builder("127.0.0.1:1,localhost:1").group("billing").subscribe(["orders"]);
            builder.connect_lazy().unwrap()
        })
        .collect();
    // A thread gives itself its name.
    wait_for(|threads| threads.iter().filter(|name| *name == "ottla-driver").count() == 6);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for (at, consumer) in consumers.into_iter().enumerate() {
        if at % 2 == 0 {
            let _ = runtime.block_on(consumer.close_timeout(Duration::from_millis(50)));
        } else {
            drop(consumer);
        }
    }
    wait_for(<[String]>::is_empty);
}

fn wait_for(what: impl Fn(&[String]) -> bool) {
    let begun = Instant::now();
    while !what(&driver_threads()) {
        assert!(begun.elapsed() < Duration::from_secs(30), "threads: {:?}", driver_threads());
        thread::yield_now();
    }
}

fn driver_threads() -> Vec<String> {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| name.starts_with("ottla-"))
        .collect()
}
