//! How many copies and how many leads are due to each member.

/// Copies due to each member: its share of `partitions * copies` by weight, at most `partitions`,
/// rounded down or up. Rounding up goes first to those who hold that many anyway, because it
/// saves a move; then to the larger remainders; then to the earlier members.
pub(super) fn copies_due(
    partitions: usize,
    copies: usize,
    weights: &[u32],
    held: &[usize],
) -> Vec<usize> {
    debug_assert!(copies <= weights.len());
    let mut by_weight: Vec<usize> = (0..weights.len()).collect();
    by_weight.sort_by_key(|member| std::cmp::Reverse(weights[*member]));
    let mut due = vec![0; weights.len()];
    let mut total = partitions as u128 * copies as u128;
    let mut weight: u128 = weights.iter().map(|w| u128::from(*w)).sum();
    let mut capped = 0;
    // The heaviest first: once one is below the cap, all lighter ones are.
    for member in by_weight.iter().copied() {
        if total == 0 || total * u128::from(weights[member]) < partitions as u128 * weight {
            break;
        }
        due[member] = partitions;
        total -= partitions as u128;
        weight -= u128::from(weights[member]);
        capped += 1;
    }

    let rest = &by_weight[capped..];
    let mut rounded_up: Vec<(bool, u128, usize)> = Vec::new();
    let mut left = total;
    for member in rest.iter().copied().filter(|_| weight > 0) {
        let product = total * u128::from(weights[member]);
        due[member] = (product / weight) as usize;
        left -= product / weight;
        if !product.is_multiple_of(weight) {
            rounded_up.push((held[member] > due[member], product % weight, member));
        }
    }
    rounded_up.sort_by_key(|(holds, remainder, member)| {
        (std::cmp::Reverse((*holds, *remainder)), *member)
    });
    debug_assert!(left as usize <= rounded_up.len());
    for (_, _, member) in rounded_up.into_iter().take(left as usize) {
        due[member] += 1;
    }
    due
}

/// The fewest and the most partitions that each member should lead: its share rounded down and up.
pub(super) fn leads_due(partitions: usize, weights: &[u32]) -> Vec<(usize, usize)> {
    let weight: u128 = weights.iter().map(|w| u128::from(*w)).sum();
    let share = |w: u32| partitions as u128 * u128::from(w);
    weights
        .iter()
        .map(|w| ((share(*w) / weight) as usize, share(*w).div_ceil(weight) as usize))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_and_capped() {
        assert_eq!(copies_due(10, 3, &[1, 1, 1, 1], &[0, 0, 0, 0]), [8, 8, 7, 7]);
        assert_eq!(copies_due(10, 3, &[1, 1, 1, 1], &[0, 8, 0, 9]), [7, 8, 7, 8]);
        assert_eq!(copies_due(10, 0, &[0, 0], &[0, 0]), [0, 0]);
        assert_eq!(copies_due(10, 1, &[0, 3], &[0, 0]), [0, 10]);
        assert_eq!(copies_due(10, 2, &[100, 1, 1], &[0, 0, 0]), [10, 5, 5]);
        assert_eq!(copies_due(10, 2, &[7, 9], &[0, 0]), [10, 10]);
        assert_eq!(copies_due(8, 1, &[3, 1], &[0, 0]), [6, 2]);
        assert_eq!(leads_due(10, &[1, 1, 1]), [(3, 4); 3]);
        assert_eq!(leads_due(8, &[3, 1]), [(6, 6), (2, 2)]);
    }
}
