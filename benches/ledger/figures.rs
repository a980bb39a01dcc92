//! Memory of a process, and what is made of several figures.

/// Resident memory of a process (`self`, or its number), in bytes.
pub fn resident(process: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().unwrap();
    kib * 1024.0
}

/// The middle one.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// `1.04 (1.02 to 1.07)`: the middle one, the least and the most.
pub fn spread(values: &[f64]) -> String {
    let (least, most) = values.iter().fold((f64::INFINITY, 0.0_f64), |(least, most), &value| {
        (least.min(value), most.max(value))
    });
    format!("{:.2} ({least:.2} to {most:.2})", median(values))
}
