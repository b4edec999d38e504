//! Every binding: convert, detach, call, convert back.

#![allow(
    clippy::needless_pass_by_value,
    reason = "pyo3 hands over what it has converted"
)]

mod buffer;
mod buffer_state;
mod call;
mod estimators;
mod fs;
mod groups;
mod lists;
mod ratios;
mod scoring;
mod statistics;
mod text;

#[pyo3::pymodule]
mod _core {
    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "Python's own name")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
    #[pymodule_export]
    const BUILD_PROFILE: &str = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    #[pymodule_export]
    const MANIFEST_KEY: &str = crate::scoring::parquet::note::MANIFEST_KEY;
    #[pymodule_export]
    use super::buffer::PyGroupBuffer;
    #[pymodule_export]
    use super::estimators::PyColumn;
    #[pymodule_export]
    use super::fs::{check_parquet, exchange, file_digest, noted_footer, packed_bytes};
    #[pymodule_export]
    use super::groups::PyGroups;
    #[pymodule_export]
    use super::lists::lists;
    #[pymodule_export]
    use super::ratios::ratio_metrics;
    #[pymodule_export]
    use super::scoring::{PyKnownKeys, PyScores};
    #[pymodule_export]
    use super::statistics::{
        best_of, column, in_float32, opo_, pack_, pairs_, pass_at_k, quantiles, rows_, scaled,
        short_, stats, weighted,
    };
    #[pymodule_export]
    use super::text::{PyTextFiles, PyTextRows};
}
