// SPDX-License-Identifier: GPL-2.0

//! The end of the guest's byte streams.
//!
//! A virtio-serial port has no end of file. So the guest writes a mark after the last
//! byte, which is random for each run. A stream without it was cut short.

/// Finds the mark at the end of a stream, and passes on the bytes before it.
pub struct Ending {
    mark: Vec<u8>,
    held: Vec<u8>,
    ended: bool,
}

impl Ending {
    /// A stream that ends with `mark`.
    pub fn new(mark: &str) -> Self {
        Self {
            mark: mark.as_bytes().to_vec(),
            held: Vec::new(),
            ended: false,
        }
    }

    /// Whether the mark has come.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Takes bytes as they come, and returns those that cannot be part of the mark.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        if self.held.ends_with(&self.mark) {
            self.ended = true;
            self.held.truncate(self.held.len() - self.mark.len());
            return std::mem::take(&mut self.held);
        }
        // Only what may be the start of a mark is held back: a prompt without a newline
        // is passed on at once.
        let most = self.held.len().min(self.mark.len() - 1);
        let keep = (0..=most)
            .rev()
            .find(|&n| self.held.ends_with(&self.mark[..n]))
            .unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        std::mem::replace(&mut self.held, rest)
    }

    /// The bytes that were held back, at the end of a stream without the mark.
    pub fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::Ending;

    #[test]
    fn the_mark_is_cut_off_wherever_the_pieces_break() {
        let whole = b"some text, <a false start<end>";
        for size in 1..whole.len() {
            let mut ending = Ending::new("<end>");
            let mut text = Vec::new();
            for piece in whole.chunks(size) {
                text.extend(ending.feed(piece));
            }
            assert!(ending.ended());
            assert_eq!(text, b"some text, <a false start");
        }
    }

    #[test]
    fn a_stream_without_the_mark_has_not_ended() {
        let mut ending = Ending::new("<end>");
        assert_eq!(ending.feed(b"text<en"), b"text");
        assert!(!ending.ended());
        assert_eq!(ending.rest(), b"<en");
    }
}
