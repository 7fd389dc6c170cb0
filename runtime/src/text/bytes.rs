//! GPT-2's byte alphabet: one printable character for each byte, so that BPE can work on text.

/// The first of the characters for bytes that are not printable.
const SHIFTED: u32 = 256;

/// Whether the byte's character is its own: it is printable in Latin-1 and not a space.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)
}

/// The other bytes, in order; the n-th is written as character 256 + n.
const SHIFTED_BYTES: [u8; 68] = {
    let mut bytes = [0; 68];
    let (mut n, mut byte) = (0, 0u8);
    loop {
        if !is_plain(byte) {
            bytes[n] = byte;
            n += 1;
        }
        if byte == u8::MAX {
            break;
        }
        byte += 1;
    }
    bytes
};

/// The character for a byte.
pub(super) fn byte_to_char(byte: u8) -> char {
    if is_plain(byte) {
        return char::from(byte);
    }
    let n = SHIFTED_BYTES.partition_point(|&b| b < byte) as u32;
    char::from_u32(SHIFTED + n).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte of a character.
pub(super) fn char_to_byte(c: char) -> Option<u8> {
    match u8::try_from(c) {
        Ok(byte) => is_plain(byte).then_some(byte),
        Err(_) => SHIFTED_BYTES.get((c as usize).checked_sub(SHIFTED as usize)?).copied(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn alphabet_is_a_bijection() {
        let chars: std::collections::HashSet<char> = (0..=255).map(byte_to_char).collect();
        assert_eq!(chars.len(), 256);
        assert!((0..=255).all(|b| char_to_byte(byte_to_char(b)) == Some(b)));
        assert_eq!((byte_to_char(b' '), byte_to_char(b'\n'), byte_to_char(b'a')), ('Ġ', 'Ċ', 'a'));
        assert_eq!((char_to_byte(' '), char_to_byte('語'), char_to_byte('\u{ad}')), (None, None, None));
    }
}
