//! Curves as SVG: panels beside each other, the number of things on a logarithmic axis.

use std::fmt::Write as _;

use super::table::digits;

/// A curve: how much of what over how many.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What grows.
    pub title: String,
    /// What it is measured in.
    pub unit: &'static str,
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 220.0;
/// Left of the curve, for its numbers, and around it.
const LEFT: f64 = 55.0;
const AROUND: f64 = 35.0;

/// Panels in rows of so many.
pub fn svg(panels: &[Panel], in_row: usize) -> String {
    let rows = panels.len().div_ceil(in_row);
    let (width, height) = (WIDTH * in_row as f64, HEIGHT * rows as f64);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (index, panel) in panels.iter().enumerate() {
        let (x, y) = ((index % in_row) as f64 * WIDTH, (index / in_row) as f64 * HEIGHT);
        let _ = writeln!(svg, "<g transform=\"translate({x} {y})\">\n{}</g>", draw(panel));
    }
    svg + "</svg>\n"
}

fn draw(panel: &Panel) -> String {
    let (right, bottom) = (WIDTH - AROUND / 2.0, HEIGHT - AROUND);
    let least = panel.points.iter().map(|point| point.0).fold(f64::INFINITY, f64::min).log10();
    let most = panel.points.iter().map(|point| point.0).fold(1.0, f64::max).log10();
    let top =
        panel.points.iter().map(|point| point.1).fold(0.0, f64::max) * 1.15 + f64::MIN_POSITIVE;
    let across =
        |count: f64| LEFT + (count.log10() - least) / (most - least).max(1e-9) * (right - LEFT);
    let up = |value: f64| bottom - value / top * (bottom - AROUND);
    let mut svg = format!(
        "<text x=\"{LEFT}\" y=\"16\" font-weight=\"bold\">{}</text>\n<text x=\"{LEFT}\" y=\"29\" fill=\"#666\">{}</text>\n\
         <path d=\"M{LEFT} {AROUND}V{bottom}H{right}\" fill=\"none\" stroke=\"#999\"/>\n",
        panel.title, panel.unit
    );
    for value in [0.0, top / 2.0, top] {
        let (y, label) = (up(value), digits(value));
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            LEFT - 5.0,
            y + 4.0
        );
        let _ = writeln!(svg, "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#eee\"/>");
    }
    let points: Vec<String> = panel
        .points
        .iter()
        .map(|(count, value)| format!("{:.1},{:.1}", across(*count), up(*value)))
        .collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#06c\" stroke-width=\"2\"/>",
        points.join(" ")
    );
    for (count, value) in &panel.points {
        let (x, y) = (across(*count), up(*value));
        let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"#06c\"/>");
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 15.0,
            short(*count)
        );
    }
    svg
}

/// 10 k, 1 M.
pub fn short(count: f64) -> String {
    match count {
        count if count >= 1e6 => format!("{} M", count / 1e6),
        count if count >= 1e3 => format!("{} k", count / 1e3),
        count => format!("{count}"),
    }
}
