//! Tables as the README shows them.

use std::fs;
use std::path::Path;

/// A table in Markdown.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Prints the head; every row is printed when it is there.
    pub fn new(head: &[&str]) -> Self {
        let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
        let rule = vec!["---".to_owned(); head.len()];
        let mut table = Self { rows: Vec::new() };
        table.push(head);
        table.push(rule);
        table
    }

    pub fn push(&mut self, row: Vec<String>) {
        println!("{}", line(&row));
        self.rows.push(row);
    }

    pub fn render(&self) -> String {
        self.rows.iter().map(|row| line(row) + "\n").collect()
    }
}

fn line(row: &[String]) -> String {
    format!("| {} |", row.join(" | "))
}

/// The middle of some numbers.
pub fn median(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.into_iter().collect();
    numbers.sort_by(f64::total_cmp);
    match numbers.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => numbers[count / 2],
        count => (numbers[count / 2 - 1] + numbers[count / 2]) / 2.0,
    }
}

/// The middle of some numbers, and between what they lie.
pub fn spread(numbers: &[f64]) -> String {
    let least = numbers.iter().copied().fold(f64::INFINITY, f64::min);
    let most = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("**{}** ({}..{})", digits(median(numbers.iter().copied())), digits(least), digits(most))
}

/// A number to three digits.
pub fn digits(number: f64) -> String {
    let decimals = if number.abs() >= 100.0 {
        0
    } else if number.abs() >= 10.0 {
        1
    } else if number.abs() >= 0.1 {
        2
    } else {
        3
    };
    format!("{number:.decimals$}")
}

/// Writes a file of results beside the benches. What people have written in it, from its first
/// section on, stays.
pub fn write(name: &str, text: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results");
    fs::create_dir_all(&folder).unwrap();
    let before = fs::read_to_string(folder.join(name)).unwrap_or_default();
    let sections = before.find("\n## ").map_or("", |at| &before[at..]);
    fs::write(folder.join(name), format!("{text}{sections}")).unwrap();
    println!("written: benches/results/{name}");
}
