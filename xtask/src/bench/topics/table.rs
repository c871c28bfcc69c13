// SPDX-License-Identifier: GPL-2.0

//! The table of a topic.

use composefs_bench::topics::Cell;

/// Width of the columns with numbers.
const NUMBER: usize = 10;

/// The table, in reStructuredText. A row that a column does not have is empty there.
pub fn text(cells: &[Cell]) -> String {
    let mut columns: Vec<&str> = Vec::new();
    let mut rows: Vec<&str> = Vec::new();
    for cell in cells {
        if !columns.contains(&cell.column.as_str()) {
            columns.push(&cell.column);
        }
        if !rows.contains(&cell.row.as_str()) {
            rows.push(&cell.row);
        }
    }
    let width = rows.iter().map(|row| row.chars().count()).max();
    let width = width.unwrap_or_default();
    let rule = line(
        width,
        &"=".repeat(width),
        columns.iter().map(|_| "=".repeat(NUMBER)),
    );
    let head = line(width, "\\", columns.iter().map(|&column| column.to_owned()));
    let body = rows.iter().map(|&row| {
        let values = columns.iter().map(|&column| {
            let mut found = cells.iter();
            let found = found.find(|cell| cell.row == row && cell.column == column);
            found.map_or_else(String::new, |cell| amount(cell.value))
        });
        line(width, row, values)
    });
    format!("{rule}{head}{rule}{}{rule}", body.collect::<String>())
}

/// A value, with as many digits as say something.
fn amount(value: f64) -> String {
    match value {
        whole if whole.fract() == 0.0 => format!("{whole:.0}"),
        large if large >= 1000.0 => format!("{large:.0}"),
        middle if middle >= 100.0 => format!("{middle:.1}"),
        small => format!("{small:.2}"),
    }
}

fn line(width: usize, title: &str, cells: impl Iterator<Item = String>) -> String {
    let mut text = format!("{title:<width$}");
    for cell in cells {
        text += &format!(" {cell:>NUMBER$}");
    }
    text.trim_end().to_owned() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_line_for_each_row() {
        let cell = |row: &str, column: &str, value| Cell {
            row: row.to_owned(),
            column: column.to_owned(),
            value,
        };
        let text = text(&[
            cell("a: ms", "composefs", 1.5),
            cell("b: KiB", "composefs", 1234.0),
            cell("a: ms", "er.+ovl.", 150.25),
        ]);
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let words = |line: &str| {
            line.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(words(lines[1]), ["\\", "composefs", "er.+ovl."]);
        assert_eq!(words(lines[3]), ["a:", "ms", "1.50", "150.2"]);
        assert_eq!(words(lines[4]), ["b:", "KiB", "1234"]);
    }
}
