//! Columns of text that line up.

/// No row is filled up beyond this to line up with a longer cell of another row.
const WIDEST_COLUMN: usize = 48;

/// Rows of cells; the first row is the head.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Table(Vec<Vec<String>>);

impl Table {
    pub(in crate::cli) fn new<const N: usize>(head: [&str; N]) -> Self {
        Self(vec![head.map(str::to_owned).into()])
    }

    /// A table of two columns without a head: names and what they are.
    pub(in crate::cli) fn sheet() -> Self {
        Self::default()
    }

    /// Adds a row. Control characters are escaped: names come from others, and a terminal obeys
    /// them.
    pub(in crate::cli) fn row<const N: usize>(&mut self, cells: [&str; N]) {
        self.0.push(cells.map(visible).into());
    }

    pub(in crate::cli) fn render(&self) -> String {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                self.0
                    .iter()
                    .filter_map(|row| row.get(column))
                    .map(|cell| width(cell))
                    .max()
                    .unwrap_or(0)
            })
            .map(|width| width.min(WIDEST_COLUMN))
            .collect();
        let mut text = String::new();
        for row in &self.0 {
            let mut line = String::new();
            for (cell, room) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', room.saturating_sub(width(cell)) + 2));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

fn visible(cell: &str) -> String {
    cell.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}

/// How many columns of a terminal a text takes: the letters of East Asia take two.
fn width(text: &str) -> usize {
    const WIDE: [std::ops::RangeInclusive<char>; 8] = [
        '\u{1100}'..='\u{115f}',
        '\u{2e80}'..='\u{a4cf}',
        '\u{ac00}'..='\u{d7a3}',
        '\u{f900}'..='\u{faff}',
        '\u{fe30}'..='\u{fe6f}',
        '\u{ff00}'..='\u{ff60}',
        '\u{1f300}'..='\u{1faff}',
        '\u{20000}'..='\u{3fffd}',
    ];
    text.chars().map(|c| if WIDE.iter().any(|range| range.contains(&c)) { 2 } else { 1 }).sum()
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn columns_line_up_and_lines_end_where_their_text_ends() {
        let mut table = Table::new(["ID", "NAME", "PLANS"]);
        table.row(["acme", "Acme, Inc.", "gold, free"]);
        table.row(["a-longer-id", "", ""]);
        table.row(["네이버", "日本", "x"]);
        insta::assert_snapshot!(table.render(), @r"
        ID           NAME        PLANS
        acme         Acme, Inc.  gold, free
        a-longer-id
        네이버       日本        x
        ");
    }

    #[test]
    fn a_long_cell_makes_no_other_row_long() {
        let mut table = Table::new(["ID", "TARGETS", "RATE"]);
        table.row(["long", &"x".repeat(1_000), "1/s"]);
        table.row(["short", "a", "2/s"]);
        let text = table.render();
        let widths: Vec<usize> = text.lines().map(str::len).collect();
        assert_eq!(widths, [61, 7 + 1_000 + 2 + 3, 60], "{text}");
    }

    #[test]
    fn a_terminal_is_not_told_what_to_do() {
        let mut sheet = Table::sheet();
        sheet.row(["name", "red\u{1b}[31m\ntwo"]);
        assert_eq!(sheet.render(), "name  red\\u{1b}[31m\\ntwo\n");
    }

    #[test]
    fn a_table_without_rows_is_its_head() {
        assert_eq!(Table::new(["ID", "NAME"]).render(), "ID  NAME\n");
        assert_eq!(Table::sheet().render(), "");
    }
}
