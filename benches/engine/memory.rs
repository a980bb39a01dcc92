//! Memory of a counter: each way fills a process of its own, so that nothing is left of another.

use std::process::Command;

use crate::declare::key;
use crate::figures::resident;
use crate::subject::{ALL, Clocks, IN_PERIODS};

/// Makes this program a child that measures one way.
pub const FLAG: &str = "--memory-of";

/// What is written behind the decisions is taken away after so many: what waits for that is no part
/// of a counter.
const EACH: usize = 1_000;
const PERIODS: usize = 10;

/// Prints what a counter takes with each of the ways.
pub fn table(many: usize) {
    println!("\n| memory of a key, {many} keys of 39 bytes | resident bytes |\n|---|---|");
    for (place, (name, _)) in ALL.iter().enumerate() {
        let child = Command::new(std::env::current_exe().unwrap())
            .args([FLAG, &place.to_string(), &many.to_string()])
            .output()
            .unwrap();
        let printed = String::from_utf8(child.stdout).unwrap();
        println!("| {name} | {} |", printed.trim());
    }
}

/// Fills one way with keys, and prints what each takes.
pub fn child(arguments: &[String]) {
    let numbers: Vec<usize> =
        arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let (name, make) = ALL[numbers[0]];
    let subject = make(numbers[1], Clocks::Given);
    let before = resident("self");
    for period in 0..if name == IN_PERIODS { PERIODS } else { 1 } {
        if period > 0 {
            subject.pass();
        }
        for number in 0..numbers[1] {
            subject.decide(&key(number));
            if number % EACH == 0 {
                subject.write_behind();
            }
        }
    }
    println!("{:.0}", (resident("self") - before) / numbers[1] as f64);
}
