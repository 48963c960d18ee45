//! Text in columns.

use super::out::plain;

/// Rows under a head. Columns are as wide as they need to be; those of numbers are aligned to the right.
pub struct Table {
    numbers: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these heads; one that begins with `>` is of numbers.
    pub fn new(heads: &[&str]) -> Self {
        let numbers = heads.iter().map(|head| head.starts_with('>')).collect();
        let heads = heads.iter().map(|head| head.trim_start_matches('>').to_owned()).collect();
        Self { numbers, rows: vec![heads] }
    }

    /// One more row, as long as the head.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into_iter().map(|cell| plain(&cell).into_owned()).collect());
    }

    /// The lines, without blanks at their ends.
    pub fn lines(&self) -> Vec<String> {
        let widths: Vec<usize> = (0..self.numbers.len()).map(|column| self.width(column)).collect();
        self.rows.iter().map(|row| self.line(row, &widths)).collect()
    }

    fn width(&self, column: usize) -> usize {
        self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let cells = row.iter().zip(widths).zip(&self.numbers).map(|((cell, width), number)| {
            if *number { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_where_their_text_does() {
        let mut table = Table::new(&["ROOM", ">MEMBERS", "NAME"]);
        table.row(["lobby".into(), "3".into(), "a\nb".into()]);
        table.row(["a-longer-room".into(), "1234".into(), String::new()]);
        let wanted =
            ["ROOM           MEMBERS  NAME", "lobby                3  a\u{fffd}b", "a-longer-room     1234"];
        assert_eq!(table.lines(), wanted);
    }
}
