//! Loops in the widest instructions that the processor has, whichever it was built for.

use pulp::Arch;
pub(super) use pulp::NullaryFnOnce as Loops;

/// Runs `loops`, of which all that is inlined exists once for every kind of processor. No number
/// depends on the kind: a product and a sum are never fused.
#[inline]
pub(super) fn widest<L: Loops>(loops: L) -> L::Output {
    Arch::new().dispatch(loops)
}

/// The same of what names its vectors.
#[inline]
pub(super) fn simd<L: pulp::WithSimd>(loops: L) -> L::Output {
    Arch::new().dispatch(loops)
}
