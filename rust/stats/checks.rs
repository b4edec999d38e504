//! What is asked of rewards before anything is computed from them.

use crate::error::Error;
use crate::groups::Groups;

/// # Errors
/// [`Error::RewardCount`] unless there is one reward per row.
pub(crate) fn check_count(rewards: &[f64], groups: &Groups) -> Result<(), Error> {
    let (found, expected) = (rewards.len(), groups.n_rows());
    if found == expected {
        Ok(())
    } else {
        Err(Error::RewardCount { found, expected })
    }
}

/// An infinite reward is named by the first row that has one, whatever its group.
pub(crate) fn first_infinite(rewards: &[f64]) -> Option<Error> {
    let row = rewards.iter().position(|reward| reward.is_infinite())?;
    Some(Error::Infinite {
        row,
        value: rewards[row],
    })
}
