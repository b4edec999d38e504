//! Whole numbers in as few bytes as they need, seven bits a byte, the lowest first.

/// Appends a number to `out`.
#[inline]
pub(super) fn write(mut number: u64, out: &mut Vec<u8>) {
    while number > 0x7f {
        out.push(u8::try_from(number & 0x7f).expect("seven bits") | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).expect("seven bits"));
}

/// Takes a number from the front of `bytes`; `None` if it does not end there.
#[inline]
pub(super) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// A number that was the index of something in memory.
pub(super) fn index(number: u64) -> usize {
    usize::try_from(number).expect("was in memory")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back_in_their_order(numbers: Vec<u64>, shift in 0..64) {
            let numbers: Vec<u64> = numbers.iter().map(|number| number >> shift).collect();
            let mut bytes = Vec::new();
            for &number in &numbers {
                write(number, &mut bytes);
            }
            let mut rest = &bytes[..];
            let found: Vec<u64> = std::iter::from_fn(|| take(&mut rest)).collect();
            prop_assert_eq!(found, numbers);
            prop_assert!(rest.is_empty());
        }
    }
}
