//! Soft win rates: how often a completion would win a noisy comparison with the others.

use super::group::Group;
use crate::pool::CHECK_EVERY;

/// Equal rewards: their value, how many there are, and what each wins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Class {
    value: f64,
    count: f64,
    wins: f64,
}

/// Writes Bradley-Terry wins minus losses over opponents; `classes` is scratch.
pub fn soft_wins(group: &impl Group, tau: f64, classes: &mut Vec<Class>, out: &mut [f64]) {
    let n = group.scored();
    classes.clear();
    for value in (0..n).map(|k| group.value(k)) {
        match classes.last_mut() {
            Some(class) if class.value == value => class.count += 1.0,
            _ => classes.push(Class {
                value,
                count: 1.0,
                wins: 0.0,
            }),
        }
    }
    // What one class wins of another is what that loses: each two are compared once, and every sum
    // runs over the others from the lowest up.
    for mine in 1..classes.len() {
        let (lower, upper) = classes.split_at_mut(mine);
        for (k, other) in lower.iter_mut().enumerate() {
            if k.is_multiple_of(CHECK_EVERY) && group.stopped() {
                return;
            }
            let share = soft_sign(upper[0].value, other.value, tau);
            upper[0].wins += other.count * share;
            other.wins -= upper[0].count * share;
        }
    }
    let others = (n - 1) as f64;
    group.by_value(out, |value| {
        let class = classes.partition_point(|class| class.value < value);
        classes[class].wins / others
    });
}

/// `tanh((a - b) / (2 tau))` for `a > b`, right where the difference leaves the range of float64.
fn soft_sign(a: f64, b: f64, tau: f64) -> f64 {
    let odds = (a - b) / tau;
    if odds.is_infinite() {
        ((a / 2.0 - b / 2.0) / tau).tanh()
    } else if odds < 1.0 {
        (odds / 2.0).tanh()
    } else {
        // The same in half the time, and as exact where it is not small.
        1.0 - 2.0 / (odds.exp() + 1.0)
    }
}
