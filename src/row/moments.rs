//! Variances, correlations and the like from exact power sums.
//!
//! The textbook formula `sum(x^2) - sum(x)^2 / n` loses everything to cancellation when it is
//! computed in doubles. Here every product is split into doubles that add up to it exactly (with a
//! fused multiply-add), the sums are [`ExactSum`]s, and so are the differences: what is rounded is
//! rounded once, at the end. So a statistic depends on nothing but the rows, whatever their order,
//! and rows can be taken away again.
//!
//! Products beyond the range of doubles (values above about 1e77 for a kurtosis, 1e154 for a
//! variance) give infinity or NaN.

use smallvec::SmallVec;

use crate::row::exact_sum::ExactSum;
use crate::row::varint;

/// A statistic of one column `a`, or of two, `a` and `b`, in the order of the call's arguments.
///
/// For `regr_*` these are the dependent and the independent variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Statistic {
    /// Population variance.
    VarPop,
    /// Sample variance.
    VarSamp,
    /// Its root, of the population.
    StddevPop,
    /// Its root, of the sample.
    StddevSamp,
    /// The third standardised moment.
    Skewness,
    /// The fourth, less 3.
    Kurtosis,
    /// Population covariance.
    CovarPop,
    /// Sample covariance.
    CovarSamp,
    /// Pearson's correlation.
    Corr,
    /// Average of `b`.
    RegrAvgX,
    /// Average of `a`.
    RegrAvgY,
    /// Sum of the squared deviations of `b`.
    RegrSxx,
    /// Sum of the squared deviations of `a`.
    RegrSyy,
    /// Sum of the products of both deviations.
    RegrSxy,
    /// Slope of the regression line.
    RegrSlope,
    /// Where it meets `b = 0`.
    RegrIntercept,
    /// The coefficient of determination.
    RegrR2,
}

impl Statistic {
    /// The exponents of `a` and `b` in each sum that is kept.
    fn powers(self) -> &'static [(usize, usize)] {
        match self {
            Self::VarPop | Self::VarSamp | Self::StddevPop | Self::StddevSamp | Self::RegrSyy => {
                &[(1, 0), (2, 0)]
            }
            Self::Skewness => &[(1, 0), (2, 0), (3, 0)],
            Self::Kurtosis => &[(1, 0), (2, 0), (3, 0), (4, 0)],
            Self::CovarPop | Self::CovarSamp | Self::RegrSxy => &[(1, 0), (0, 1), (1, 1)],
            Self::RegrAvgX => &[(0, 1)],
            Self::RegrAvgY => &[(1, 0)],
            Self::RegrSxx => &[(0, 1), (0, 2)],
            Self::RegrSlope | Self::RegrIntercept => &[(1, 0), (0, 1), (0, 2), (1, 1)],
            Self::Corr | Self::RegrR2 => &[(1, 0), (0, 1), (2, 0), (0, 2), (1, 1)],
        }
    }
}

/// The power sums that one statistic needs.
#[derive(Clone, Debug)]
pub struct Moments {
    statistic: Statistic,
    count: i64,
    sums: SmallVec<[ExactSum; 2]>,
}

impl Moments {
    /// The sums of nothing.
    pub fn new(statistic: Statistic) -> Self {
        Self {
            statistic,
            count: 0,
            sums: statistic.powers().iter().map(|_| ExactSum::new()).collect(),
        }
    }

    /// Adds a row, `multiplicity` times; below zero takes it away. `b` plays no part where the
    /// statistic is of one column.
    pub fn add(&mut self, a: f64, b: f64, multiplicity: i64) {
        self.count += multiplicity;
        for (sum, (of_a, of_b)) in self.sums.iter_mut().zip(self.statistic.powers()) {
            let factors = std::iter::repeat_n(a, *of_a).chain(std::iter::repeat_n(b, *of_b));
            let mut terms: SmallVec<[f64; 8]> = SmallVec::from_slice(&[1.0]);
            for factor in factors {
                for index in 0..terms.len() {
                    let (product, rest) = exact_product(terms[index], factor);
                    terms[index] = product;
                    if rest != 0.0 {
                        terms.push(rest);
                    }
                }
            }
            for term in terms {
                sum.add(term, multiplicity);
            }
        }
    }

    /// Adds all that `other`, of the same statistic, has added.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        for (ours, theirs) in self.sums.iter_mut().zip(&other.sums) {
            ours.merge(theirs);
        }
    }

    /// Appends the sums: the same bytes for the same rows, whatever the order.
    pub fn encode(&self, out: &mut Vec<u8>) {
        varint::put_signed(out, self.count);
        for sum in &self.sums {
            sum.encode(out);
        }
    }

    /// Takes what [`Moments::encode`] wrote off the front of `bytes`; `None` if it was not that.
    pub fn decode(statistic: Statistic, bytes: &mut &[u8]) -> Option<Self> {
        let mut moments = Self::new(statistic);
        moments.count = varint::take_signed(bytes)?;
        for sum in &mut moments.sums {
            let (decoded, used) = ExactSum::decode(bytes)?;
            *bytes = &bytes[used..];
            *sum = decoded;
        }
        Some(moments)
    }

    /// As [`Moments::decode`], of the same statistic as these.
    pub fn decode_like(&self, bytes: &mut &[u8]) -> Option<Self> {
        Self::decode(self.statistic, bytes)
    }

    /// The statistic; `None` where it has no value, as in Spark: of no rows, a sample of one, or a
    /// division by a variance of 0. Infinite or NaN values make it NaN.
    pub fn finish(&self) -> Option<f64> {
        let n = self.count as f64;
        let sample = match self.statistic {
            Statistic::VarSamp | Statistic::StddevSamp | Statistic::CovarSamp => n - 1.0,
            _ => n,
        };
        if self.count <= 0 || sample == 0.0 {
            return None;
        }
        let finite = self.sums.iter().all(|sum| sum.value().is_finite());
        let (a, b) = ((1, 0), (0, 1));
        let value = match self.statistic {
            Statistic::RegrAvgX => self.mean(b),
            Statistic::RegrAvgY => self.mean(a),
            _ if !finite => f64::NAN,
            Statistic::VarPop | Statistic::VarSamp => self.deviations(a, a) / sample,
            Statistic::StddevPop | Statistic::StddevSamp => (self.deviations(a, a) / sample).sqrt(),
            Statistic::RegrSyy => self.deviations(a, a),
            Statistic::RegrSxx => self.deviations(b, b),
            Statistic::RegrSxy => self.deviations(a, b),
            Statistic::CovarPop | Statistic::CovarSamp => self.deviations(a, b) / sample,
            Statistic::Skewness => {
                let second = self.deviations(a, a);
                n.sqrt() * self.third() / known(second * second * second)?.sqrt()
            }
            Statistic::Kurtosis => {
                let second = self.deviations(a, a);
                n * self.fourth() / known(second * second)? - 3.0
            }
            Statistic::Corr => {
                let (of_a, of_b) = (self.deviations(a, a), self.deviations(b, b));
                self.deviations(a, b) / known(of_a * of_b)?.sqrt()
            }
            Statistic::RegrSlope => self.deviations(a, b) / known(self.deviations(b, b))?,
            Statistic::RegrIntercept => {
                let slope = self.deviations(a, b) / known(self.deviations(b, b))?;
                self.mean(a) - slope * self.mean(b)
            }
            Statistic::RegrR2 => {
                let (of_a, of_b) = (self.deviations(a, a), known(self.deviations(b, b))?);
                if of_a == 0.0 {
                    return Some(1.0);
                }
                let both = self.deviations(a, b);
                both * both / (of_a * of_b)
            }
        };
        Some(value)
    }

    /// The sum of these powers; 0 where it is not kept.
    fn sum(&self, powers: (usize, usize)) -> ExactSum {
        let index = self.statistic.powers().iter().position(|p| *p == powers);
        index.map_or_else(ExactSum::new, |index| self.sums[index].clone())
    }

    fn mean(&self, of: (usize, usize)) -> f64 {
        self.sum(of).value() / self.count as f64
    }

    /// The sum of the products of two columns' deviations from their means.
    fn deviations(&self, a: (usize, usize), b: (usize, usize)) -> f64 {
        let mut sum = times(&self.sum((a.0 + b.0, a.1 + b.1)), self.count);
        sum.merge(&times(&product(&self.sum(a), &self.sum(b)), -1));
        sum.value() / self.count as f64
    }

    /// The sum of the cubed deviations.
    fn third(&self) -> f64 {
        let n = self.count;
        let (one, two, three) = (self.sum((1, 0)), self.sum((2, 0)), self.sum((3, 0)));
        let square = product(&one, &one);
        let mut sum = times(&times(&three, n), n);
        sum.merge(&times(&times(&product(&one, &two), n), -3));
        sum.merge(&times(&product(&square, &one), 2));
        sum.value() / n as f64 / n as f64
    }

    /// The sum of the deviations to the fourth.
    fn fourth(&self) -> f64 {
        let n = self.count;
        let (one, two) = (self.sum((1, 0)), self.sum((2, 0)));
        let (three, four) = (self.sum((3, 0)), self.sum((4, 0)));
        let square = product(&one, &one);
        let mut sum = times(&times(&times(&four, n), n), n);
        sum.merge(&times(&times(&times(&product(&one, &three), n), n), -4));
        sum.merge(&times(&times(&product(&square, &two), n), 6));
        sum.merge(&times(&product(&square, &square), -3));
        sum.value() / n as f64 / n as f64 / n as f64
    }
}

fn known(divisor: f64) -> Option<f64> {
    (divisor != 0.0).then_some(divisor)
}

/// Two doubles that add up to the product, but for what lies below the smallest double.
fn exact_product(a: f64, b: f64) -> (f64, f64) {
    let product = a * b;
    if product.is_finite() {
        (product, a.mul_add(b, -product))
    } else {
        (product, 0.0)
    }
}

fn times(sum: &ExactSum, factor: i64) -> ExactSum {
    let mut scaled = ExactSum::new();
    for term in sum.terms() {
        scaled.add(term, factor);
    }
    scaled
}

fn product(a: &ExactSum, b: &ExactSum) -> ExactSum {
    let mut sum = ExactSum::new();
    let of_b = b.terms();
    for a in a.terms() {
        for b in &of_b {
            let (product, rest) = exact_product(a, *b);
            sum.add(product, 1);
            sum.add(rest, 1);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(statistic: Statistic, rows: &[(f64, f64)]) -> Moments {
        let mut moments = Moments::new(statistic);
        rows.iter().for_each(|(a, b)| moments.add(*a, *b, 1));
        moments
    }

    #[test]
    fn a_small_spread_around_a_large_mean_is_exact() {
        let rows = [(1e9, 0.0), (1e9 + 1.0, 0.0), (1e9 + 2.0, 0.0)];
        assert_eq!(of(Statistic::VarSamp, &rows).finish(), Some(1.0));
        let rows = [(1e15 + 0.25, 0.0), (1e15 + 0.5, 0.0), (1e15 + 0.75, 0.0)];
        assert_eq!(of(Statistic::StddevSamp, &rows).finish(), Some(0.25));
        assert_eq!(of(Statistic::Skewness, &rows).finish(), Some(0.0));
        assert_eq!(of(Statistic::Kurtosis, &rows).finish(), Some(-1.5));
    }

    #[test]
    fn rows_taken_away_leave_nothing_behind() {
        let rows = [(0.1, 3.0), (1e10, -7.5), (-3.3, 0.7)];
        let mut moments = of(Statistic::Corr, &rows);
        moments.add(2e-7, 1e17, 2);
        moments.add(2e-7, 1e17, -2);
        let (mut left, mut right) = (vec![], vec![]);
        moments.encode(&mut left);
        of(Statistic::Corr, &rows).encode(&mut right);
        assert_eq!(left, right);
        let mut bytes = &left[..];
        let read = Moments::decode(Statistic::Corr, &mut bytes).unwrap();
        assert!(bytes.is_empty());
        assert_eq!(read.finish(), moments.finish());
    }

    #[test]
    fn what_is_undefined_is_null() {
        assert_eq!(of(Statistic::VarPop, &[]).finish(), None);
        assert_eq!(of(Statistic::VarSamp, &[(1.0, 0.0)]).finish(), None);
        assert_eq!(of(Statistic::VarPop, &[(1.0, 0.0)]).finish(), Some(0.0));
        assert_eq!(
            of(Statistic::Corr, &[(1.0, 0.0), (1.0, 2.0)]).finish(),
            None
        );
        let infinite = of(Statistic::VarPop, &[(f64::INFINITY, 0.0), (1.0, 0.0)]);
        assert!(infinite.finish().is_some_and(f64::is_nan));
    }
}
