//! Tables without borders, coloured by cell.

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table as Layout};

use super::style::{Style, Tone};
use super::text::or_dash;

/// A cell: text, and what it tells.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl<S: AsRef<str>> From<S> for Cell {
    fn from(text: S) -> Self {
        Self { text: or_dash(text.as_ref().trim()), tone: Tone::Plain }
    }
}

impl Cell {
    /// A cell with a tone.
    pub(crate) fn toned(text: impl AsRef<str>, tone: Tone) -> Self {
        Self { text: or_dash(text.as_ref().trim()), tone }
    }
}

/// A table being filled. No cell is ever empty: a missing value is "-".
#[derive(Debug)]
pub(crate) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with these column heads.
    pub(crate) fn new(head: impl IntoIterator<Item = &'static str>) -> Self {
        Self { head: head.into_iter().collect(), rows: Vec::new() }
    }

    /// Adds a row with one cell per head.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.head.len());
        self.rows.push(cells);
    }

    /// The lines; the heads alone if there is no row.
    pub(crate) fn render(&self, style: Style) -> String {
        let mut layout = Layout::new();
        layout.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        layout.set_header(self.head.clone());
        for row in &self.rows {
            layout.add_row(row.iter().map(|cell| cell.text.as_str()).collect::<Vec<_>>());
        }
        for column in layout.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let mut text = String::new();
        for (number, line) in layout.lines().enumerate() {
            let line = line.trim_end();
            match number.checked_sub(1).and_then(|row| self.rows.get(row)) {
                Some(row) => text.push_str(&coloured(line, row, style)),
                None => text.push_str(&style.bold(line)),
            }
            text.push('\n');
        }
        text
    }
}

/// Colours the cells of a laid-out line. Layout must not see colours, as it would count them as text.
fn coloured(line: &str, row: &[Cell], style: Style) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    for cell in row {
        let Some(after) = rest.strip_prefix(cell.text.as_str()) else { break };
        out.push_str(&style.tone(cell.tone, &cell.text));
        // No cell is empty or begins with a space, so the gap ends where the next cell begins.
        let gap = after.len() - after.trim_start_matches(' ').len();
        out.push_str(&after[..gap]);
        rest = &after[gap..];
    }
    out.push_str(rest);
    out
}
