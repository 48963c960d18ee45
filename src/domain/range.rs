//! Ranges of room keys, so that a search by prefix is a range scan of an index and not a filter over all
//! rooms.

/// A half-open range of keys, compared as bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct KeyRange {
    /// The first key.
    pub from: String,
    /// The first key after the range.
    pub until: String,
}

impl KeyRange {
    /// All keys with this prefix. Every character of a key is below U+007F, so they all sort before `until`.
    pub fn beginning_with(prefix: &str) -> Self {
        Self { from: prefix.to_owned(), until: format!("{prefix}\u{7f}") }
    }

    /// One key. No key holds U+0001, so nothing lies between.
    pub fn only(key: &str) -> Self {
        Self { from: key.to_owned(), until: format!("{key}\u{1}") }
    }

    /// Whether the key is in the range.
    pub fn holds(&self, key: &str) -> bool {
        self.from.as_str() <= key && key < self.until.as_str()
    }

    /// Sorts the ranges, and drops those that lie within another. Two of these ranges never overlap in part.
    pub fn without_overlap(mut ranges: Vec<Self>) -> Vec<Self> {
        ranges.sort_unstable_by(|a, b| a.from.cmp(&b.from).then(b.until.cmp(&a.until)));
        let mut kept: Vec<Self> = Vec::with_capacity(ranges.len());
        for range in ranges {
            if kept.last().is_none_or(|last| last.until <= range.from) {
                kept.push(range);
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_within_another_is_left_out() {
        let all = KeyRange::beginning_with("");
        let (a, ab, b) = (KeyRange::beginning_with("a"), KeyRange::only("ab"), KeyRange::only("b"));
        let kept = KeyRange::without_overlap(vec![b.clone(), ab.clone(), a.clone(), a.clone()]);
        assert_eq!(kept, [a.clone(), b]);
        assert_eq!(KeyRange::without_overlap(vec![ab, all.clone(), a]), [all]);
    }

    #[test]
    fn the_key_that_is_a_prefix_of_others_is_only_itself() {
        assert!(KeyRange::only("a").holds("a") && !KeyRange::only("a").holds("a-"));
        assert!(KeyRange::beginning_with("a").holds("a~~") && !KeyRange::beginning_with("a").holds("b"));
    }
}
