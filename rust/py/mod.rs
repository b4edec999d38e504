//! Every binding: convert, detach, call, convert back.

#[pyo3::pymodule]
mod _core {}
