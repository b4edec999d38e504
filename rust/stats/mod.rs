//! What the rewards of a group say: moments, ranks, advantages, pairs and quantiles; and what the
//! log-ratios of tokens say.

pub(crate) mod advantage;
pub(crate) mod batch;
mod checks;
pub(crate) mod column;
pub(crate) mod decimal;
mod draws;
mod ends;
pub(crate) mod float32;
mod group;
mod lane;
mod lanes;
mod log_sums;
pub(crate) mod mean;
mod means;
mod moments;
mod needs;
mod network;
pub(crate) mod normal;
pub(crate) mod opo;
pub(crate) mod pairs;
pub(crate) mod quantile;
mod radix;
pub(crate) mod rank;
pub(crate) mod ratios;
pub(crate) mod rows;
mod scratch;
pub(crate) mod short;
mod sorted;
mod steady;
pub(crate) mod summary;
mod tail;
mod two;
mod widest;
mod winrate;
