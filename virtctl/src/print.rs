//! Results on standard output: tables for people, and the API's objects as they are.

use clap::{Args, ValueEnum};
use serde_json::Value;

/// A line on standard output; a reader that has gone away, as `head` does, is no error.
#[macro_export]
macro_rules! out {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($arg)*);
    }};
}

/// `-o`, for commands that have a result.
#[derive(Clone, Copy, Debug, Args)]
pub struct Printed {
    /// How the result is printed.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
}

/// How a result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// The API's own object, as JSON.
    Json,
    /// The same, as YAML.
    Yaml,
}

impl Printed {
    /// Prints `object`, for people as `table` puts it.
    pub fn show(self, object: &Value, table: impl FnOnce(&Value) -> String) {
        let text = match self.output {
            Output::Table => table(object),
            Output::Json => format!("{object:#}"),
            Output::Yaml => yaml(object),
        };
        out!("{}", text.trim_end());
    }
}

/// `-o`, for commands whose result is an object and no table.
#[derive(Clone, Copy, Debug, Args)]
pub struct Written {
    /// How it is printed.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
}

/// How an object is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// As YAML.
    #[default]
    Yaml,
    /// As JSON.
    Json,
}

impl Written {
    /// Prints `object`.
    pub fn show(self, object: &Value) {
        let text = match self.output {
            Format::Yaml => yaml(object),
            Format::Json => format!("{object:#}"),
        };
        out!("{}", text.trim_end());
    }
}

/// The object as YAML.
pub fn yaml(object: &Value) -> String {
    // JSON is YAML too, should there be a value that the writer has no plain form of.
    serde_saphyr::to_string(object).unwrap_or_else(|_| object.to_string())
}

/// Columns as kubectl sets them: as wide as their widest cell, three spaces apart. What comes from
/// a guest or a server cannot move the cursor.
pub fn columns(header: &[&str], rows: &[Vec<String>]) -> String {
    let header = header.iter().map(|&cell| cell.to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(header)
        .chain(
            rows.iter()
                .map(|row| row.iter().map(|cell| plain(cell)).collect()),
        )
        .collect();
    let mut widths = vec![];
    for row in &rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths);
        let line: String = cells
            .map(|(cell, &width)| format!("{cell:<width$}   "))
            .collect();
        format!("{}\n", line.trim_end())
    };
    rows.iter().map(line).collect()
}

/// The text without control characters.
pub fn plain(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_cells() {
        let row = |cells: &[&str]| cells.iter().map(|&cell| cell.to_owned()).collect();
        let rows = [
            row(&["vda", "/"]),
            row(&["a-long-name", ""]),
            row(&["é\x1b[2J", "x"]),
        ];
        assert_eq!(
            columns(&["DISK", "MOUNTED ON"], &rows),
            "DISK          MOUNTED ON\nvda           /\na-long-name\né[2J          x\n"
        );
        assert_eq!(columns(&["DISK"], &[]), "DISK\n");
    }
}
