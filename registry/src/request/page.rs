//! Page tokens: where the page before ended, of which question, from which state.

use std::fmt;

use registry_state::limits::PAGE_TOKEN_BYTES_MAX;

const VERSION: &str = "1";

/// Where a page ended. Its text form is opaque to clients; every part of it is printable ASCII without
/// "/", as names and instance ids are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageToken {
    /// Names the question, so that the token of another one is refused.
    pub question: u64,
    /// Epoch of the state that the page showed.
    pub epoch: u64,
    /// Revision of that state: a later page shows no older one (API/Q10).
    pub revision: u64,
    /// Key of the last item.
    pub last: Vec<String>,
}

impl fmt::Display for PageToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION}/{:x}/{:x}/{:x}", self.question, self.epoch, self.revision)?;
        self.last.iter().try_for_each(|part| write!(f, "/{part}"))
    }
}

impl PageToken {
    /// Reads a token of a question whose keys have so many parts; nothing if it is not one.
    pub fn parse(text: &str, question: u64, parts: usize) -> Option<Self> {
        if text.len() > PAGE_TOKEN_BYTES_MAX {
            return None;
        }
        let mut fields = text.split('/');
        if fields.next() != Some(VERSION) {
            return None;
        }
        let mut number = || u64::from_str_radix(fields.next()?, 16).ok();
        let (asked, epoch, revision) = (number()?, number()?, number()?);
        let last: Vec<String> = fields.map(str::to_owned).collect();
        let token = Self { question: asked, epoch, revision, last };
        (asked == question && token.last.len() == parts).then_some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_text_form() {
        let last = vec!["default".into(), "orders".into(), "[::1]:80".into()];
        let token = PageToken { question: 7, epoch: u64::MAX, revision: 42, last };
        assert_eq!(PageToken::parse(&token.to_string(), 7, 3), Some(token));
    }

    #[test]
    fn the_longest_token_stays_within_its_bound() {
        let last = vec!["n".repeat(253), "s".repeat(253), "i".repeat(260)];
        let token = PageToken { question: u64::MAX, epoch: u64::MAX, revision: u64::MAX, last };
        let text = token.to_string();
        assert!(text.len() <= PAGE_TOKEN_BYTES_MAX);
        assert_eq!(PageToken::parse(&text, u64::MAX, 3), Some(token));
    }

    #[test]
    fn what_is_not_a_token_of_the_question_is_refused() {
        let token = PageToken { question: 7, epoch: 1, revision: 2, last: vec!["a".into()] }.to_string();
        assert!(PageToken::parse(&token, 8, 1).is_none());
        assert!(PageToken::parse(&token, 7, 2).is_none());
        let long = "x".repeat(2_000);
        for bad in ["", "1", "2/7/1/2/a", "1/7/1/x/a", "1/7/1/-2/a", "\0", &long] {
            assert!(PageToken::parse(bad, 7, 1).is_none(), "{bad}");
        }
    }
}
