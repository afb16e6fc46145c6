//! Colours, where the terminal shows them.

/// Whether and how to colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Style {
    /// False: everything stays as it is.
    pub(crate) colour: bool,
}

/// What a word tells, which decides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it should be.
    Good,
    /// On the way, or worth a look.
    Attention,
    /// Something is wrong.
    Bad,
    /// Nothing special.
    Plain,
}

impl Style {
    /// `text` in the colour of `tone`.
    pub(crate) fn tone(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Attention => "33",
            Tone::Bad => "31",
            Tone::Plain => return text.to_owned(),
        };
        self.paint(code, text)
    }

    /// A headline.
    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// A remark.
    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// An error.
    pub(crate) fn bad(self, text: &str) -> String {
        self.tone(Tone::Bad, text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
