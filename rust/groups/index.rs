//! Numbers of rows and groups, between the widths that they are kept in.

/// A row or item number in the 32 bits that all kernels keep it in.
#[inline]
pub(crate) fn to_u32(row: usize) -> u32 {
    u32::try_from(row).expect("row counts are checked to fit 32 bits")
}

/// An offset as an index: offsets were checked to be non-negative.
#[inline]
pub(crate) fn position(offset: i64) -> usize {
    usize::try_from(offset).expect("offsets are not negative")
}
