//! What the rewards of a group say: moments, ranks, advantages, pairs and quantiles.

pub(crate) mod advantage;
mod checks;
pub(crate) mod column;
pub(crate) mod decimal;
mod draws;
mod group;
mod lanes;
pub(crate) mod mean;
mod moments;
mod network;
pub(crate) mod normal;
pub(crate) mod opo;
pub(crate) mod pairs;
pub(crate) mod quantile;
mod radix;
pub(crate) mod rank;
pub(crate) mod rows;
mod scratch;
mod sorted;
mod steady;
pub(crate) mod summary;
mod winrate;
