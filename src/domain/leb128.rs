//! Unsigned numbers in as few bytes as they need (LEB128, DWARF 5 section 7.6): seven bits in each, the lowest first.
//!
//! Reading is left to those who keep them: what comes from a file is checked, what is in our own memory need not be.

/// Adds a number: 1 to 10 bytes.
pub fn put(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_as_few_bytes_as_they_need() {
        for (value, bytes) in
            [(0, &[0][..]), (127, &[0x7f]), (128, &[0x80, 1]), (624_485, &[0xe5, 0x8e, 0x26])]
        {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out, bytes, "{value}");
        }
        let mut out = Vec::new();
        put(&mut out, u64::MAX);
        assert_eq!((out.len(), out[9]), (10, 1));
    }
}
