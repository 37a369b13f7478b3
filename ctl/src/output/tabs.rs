//! Elastic tab stops as Go's text/tabwriter aligns them: cells end with a tab, a column is a block of neighbouring
//! lines.

/// How cells are padded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tabs {
    /// The least width of a cell, padding included.
    pub least: usize,
    pub padding: usize,
}

/// kubectl's tables.
pub(crate) const TABLE: Tabs = Tabs { least: 6, padding: 3 };
/// kubectl's descriptions.
pub(crate) const DESCRIPTION: Tabs = Tabs { least: 0, padding: 2 };

struct Writer<'a> {
    tabs: Tabs,
    lines: Vec<Vec<&'a str>>,
    widths: Vec<usize>,
    out: String,
}

impl Tabs {
    /// Aligns a text whose cells end with tabs.
    pub(crate) fn align(self, text: &str) -> String {
        let body = text.strip_suffix('\n').unwrap_or(text);
        if text.is_empty() {
            return String::new();
        }
        let lines: Vec<Vec<&str>> = body.split('\n').map(|line| line.split('\t').collect()).collect();
        let count = lines.len();
        let mut writer = Writer { tabs: self, lines, widths: Vec::new(), out: String::with_capacity(text.len() * 2) };
        writer.format(0, count);
        writer.out
    }
}

impl Writer<'_> {
    fn has_cell(&self, line: usize, column: usize) -> bool {
        self.lines.get(line).is_some_and(|cells| column + 1 < cells.len())
    }

    fn format(&mut self, mut from: usize, to: usize) {
        let column = self.widths.len();
        let mut this = from;
        while this < to {
            if !self.has_cell(this, column) {
                this += 1;
                continue;
            }
            self.write(from, this);
            from = this;
            let mut width = self.tabs.least;
            while this < to && self.has_cell(this, column) {
                let cell = self.lines[this][column].chars().count();
                width = width.max(cell + self.tabs.padding);
                this += 1;
            }
            self.widths.push(width);
            self.format(from, this);
            self.widths.pop();
            from = this;
        }
        self.write(from, to);
    }

    fn write(&mut self, from: usize, to: usize) {
        for line in from..to {
            for (column, cell) in self.lines[line].iter().enumerate() {
                self.out.push_str(cell);
                if let Some(width) = self.widths.get(column) {
                    let spaces = width.saturating_sub(cell.chars().count());
                    self.out.extend(std::iter::repeat_n(' ', spaces));
                }
            }
            self.out.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_blocks_of_neighbouring_lines() {
        let text = "Name:\tweb\nLabels:\ta=b\n\tcc=d\nConditions:\n  Type\tStatus\n  Ready\tTrue\nx\n";
        let expected = "Name:    web\nLabels:  a=b\n         cc=d\nConditions:\n  Type   Status\n  Ready  True\nx\n";
        assert_eq!(DESCRIPTION.align(text), expected);
        assert_eq!(TABLE.align("NAME\tAGE\na\t5s\n"), "NAME   AGE\na      5s\n");
    }
}
