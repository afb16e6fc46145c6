//! The words of a line: `name`, `key=value` and flags, taken one by one so that none is overlooked.

/// Words that are left.
pub(crate) struct Words<'a> {
    plain: Vec<&'a str>,
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Words<'a> {
    pub(crate) fn of(text: &'a str) -> Self {
        let (mut plain, mut pairs) = (Vec::new(), Vec::new());
        for word in text.split_whitespace() {
            match word.split_once('=') {
                Some(pair) => pairs.push(pair),
                None => plain.push(word),
            }
        }
        Self { plain, pairs }
    }

    /// The next plain word.
    pub(crate) fn next(&mut self) -> Option<&'a str> {
        if self.plain.is_empty() { None } else { Some(self.plain.remove(0)) }
    }

    /// The next plain word, which must be there.
    pub(crate) fn need(&mut self, what: &str) -> Result<&'a str, String> {
        self.next().ok_or_else(|| format!("{what} is missing"))
    }

    /// True if the flag is there.
    pub(crate) fn flag(&mut self, flag: &str) -> bool {
        let found = self.plain.iter().position(|word| *word == flag);
        found.map(|at| self.plain.remove(at)).is_some()
    }

    /// The value of a key.
    pub(crate) fn value(&mut self, key: &str) -> Option<&'a str> {
        let at = self.pairs.iter().position(|(name, _)| *name == key)?;
        Some(self.pairs.remove(at).1)
    }

    /// The value of a key as a number.
    pub(crate) fn number(&mut self, key: &str) -> Result<Option<u64>, String> {
        self.value(key).map(number).transpose()
    }

    /// The value of a key as a time in milliseconds.
    pub(crate) fn time(&mut self, key: &str) -> Result<Option<u64>, String> {
        self.value(key).map(time).transpose()
    }

    /// All pairs that are left.
    pub(crate) fn pairs(&mut self) -> Vec<(&'a str, &'a str)> {
        std::mem::take(&mut self.pairs)
    }

    /// Fails if a word was not taken.
    pub(crate) fn done(self) -> Result<(), String> {
        if self.plain.is_empty() && self.pairs.is_empty() {
            return Ok(());
        }
        Err(format!("not understood: {:?} {:?}", self.plain, self.pairs))
    }
}

pub(crate) fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is not a number"))
}

/// `250ms`, `15s`, `5m`, `1h`, `90d` or `0`.
pub(crate) fn time(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        other => return Err(format!("{other} is not a unit of time")),
    };
    Ok(number(digits)? * unit)
}
