//! Tables for people, with borders as minikube draws them.

use comfy_table::presets::UTF8_FULL_CONDENSED;

/// A table with a title over each column.
#[derive(Debug)]
pub struct Table(comfy_table::Table);

impl Table {
    /// An empty table with these columns.
    pub fn new(columns: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        // Cells are never broken into lines: what reads a table line by line goes on to work.
        table.load_preset(UTF8_FULL_CONDENSED).set_header(columns);
        Self(table)
    }

    /// Adds a row.
    pub fn row(&mut self, cells: &[String]) {
        self.0.add_row(cells);
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
