//! AdamW (arXiv 1711.05101) on one flat list of parameters, with clipping and schedules of the learning rate.

use super::TrainError;
use serde::{Deserialize, Serialize};

/// How the learning rate goes on after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// It stays.
    Constant,
    /// It falls to 0 along half a cosine (arXiv 1608.03983, without restarts).
    #[default]
    Cosine,
}

/// AdamW's settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// The highest learning rate.
    pub rate: f32,
    /// How slowly the mean of gradients and that of their squares change.
    pub betas: [f32; 2],
    /// Added to the root of the second.
    pub eps: f32,
    /// Share of each parameter that is lost per step, times the learning rate.
    pub decay: f32,
    /// The largest norm of all gradients together; longer ones are shortened.
    pub clip: Option<f32>,
    /// Steps in which the rate rises from 0.
    pub warm_up: usize,
    /// What follows.
    pub schedule: Schedule,
}

impl Default for AdamW {
    fn default() -> Self {
        Self {
            rate: 5e-4,
            betas: [0.9, 0.999],
            eps: 1e-8,
            decay: 0.0,
            clip: Some(1.0),
            warm_up: 0,
            schedule: Schedule::default(),
        }
    }
}

impl AdamW {
    /// An error if a setting makes no sense.
    pub fn check(&self) -> Result<(), TrainError> {
        let is_positive = |x: f32| x.is_finite() && x > 0.0;
        let is_beta = |x: &f32| (0.0..1.0).contains(x);
        let wrong = if !is_positive(self.rate) {
            format!("a learning rate of {}; use one above 0, such as 0.0005", self.rate)
        } else if !self.betas.iter().all(is_beta) {
            format!("betas {:?}; use numbers from 0 to below 1", self.betas)
        } else if !is_positive(self.eps) {
            format!("an epsilon of {}; use one above 0", self.eps)
        } else if !self.decay.is_finite() || self.decay < 0.0 {
            format!("a weight decay of {}; use 0 or more", self.decay)
        } else if self.clip.is_some_and(|clip| !is_positive(clip)) {
            "gradients cannot be clipped to 0 or less".to_string()
        } else {
            return Ok(());
        };
        Err(TrainError::Setting(wrong))
    }

    /// The learning rate of a step of so many; steps count from 0.
    pub fn rate_at(&self, step: usize, steps: usize) -> f32 {
        if step < self.warm_up {
            return self.rate * (step + 1) as f32 / self.warm_up as f32;
        }
        match self.schedule {
            Schedule::Constant => self.rate,
            Schedule::Cosine => {
                let done = (step - self.warm_up) as f32 / steps.saturating_sub(self.warm_up).max(1) as f32;
                self.rate * 0.5 * (1.0 + (std::f32::consts::PI * done.min(1.0)).cos())
            }
        }
    }
}

/// The numbers of one update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// The learning rate, divided by what the mean of gradients lacks yet: `1 - betas[0]^t`.
    pub rate: f32,
    /// The root of what the mean of squares lacks yet: `1 - betas[1]^t`.
    pub root: f32,
    /// Share of each parameter that is lost.
    pub decay: f32,
    /// As [`AdamW::betas`].
    pub betas: [f32; 2],
    /// As [`AdamW::eps`].
    pub eps: f32,
    /// As [`AdamW::clip`].
    pub clip: Option<f32>,
}

/// AdamW's settings, and the steps that it has made.
#[derive(Clone, Debug)]
pub struct Optimiser {
    settings: AdamW,
    step: usize,
}

impl Optimiser {
    /// After so many steps.
    pub fn new(settings: AdamW, step: usize) -> Result<Self, TrainError> {
        settings.check()?;
        Ok(Self { settings, step })
    }

    /// Steps so far.
    pub fn steps(&self) -> usize {
        self.step
    }

    /// The next step. `steps` is how many there will be in all.
    pub fn next(&self, steps: usize) -> Update {
        let AdamW { betas, eps, decay, clip, .. } = self.settings;
        let rate = self.settings.rate_at(self.step, steps);
        let t = (self.step + 1).min(i32::MAX as usize) as i32;
        Update {
            rate: (f64::from(rate) / (1.0 - f64::from(betas[0]).powi(t))) as f32,
            root: (1.0 - f64::from(betas[1]).powi(t)).sqrt() as f32,
            decay: rate * decay,
            betas,
            eps,
            clip,
        }
    }

    /// It has been made.
    pub fn advance(&mut self) {
        self.step += 1;
    }
}

/// Shortens a gradient to a norm of at most `most`; returns its norm before. PyTorch divides by a number that
/// is a little larger, and so does this.
pub fn clip(gradient: &mut [f32], most: Option<f32>) -> f32 {
    let square: f64 = gradient.iter().map(|g| f64::from(*g) * f64::from(*g)).sum();
    let norm = square.sqrt() as f32;
    if let Some(most) = most {
        let factor = most / (norm + 1e-6);
        if factor < 1.0 {
            gradient.iter_mut().for_each(|g| *g *= factor);
        }
    }
    norm
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::train::{Kind, Learnt, OnHost};

    /// Three steps on f(p) = p² / 2 from 1, as `torch.optim.AdamW(lr=0.1, weight_decay=0.01)` takes them: the
    /// first moves by the rate times the gradient's sign, and by the decay.
    #[test]
    fn steps_are_those_of_the_formula() {
        let settings =
            AdamW { rate: 0.1, decay: 0.01, clip: None, schedule: Schedule::Constant, ..AdamW::default() };
        let mut optimiser = Optimiser::new(settings, 0).unwrap();
        let mut learnt = OnHost::new(vec![1.0]);
        let (mut p, mut m, mut v) = (1.0_f32, 0.0_f64, 0.0_f64);
        let mut expected = 1.0_f64;
        for t in 1..=3 {
            learnt.write(Kind::Gradient, &[p]).unwrap();
            m = 0.9 * m + 0.1 * expected;
            v = 0.999 * v + 0.001 * expected * expected;
            let (mean, square) = (m / (1.0 - 0.9_f64.powi(t)), v / (1.0 - 0.999_f64.powi(t)));
            expected -= 0.1 * 0.01 * expected + 0.1 * mean / (square.sqrt() + 1e-8);
            pollster::block_on(learnt.update(&optimiser.next(3))).unwrap();
            optimiser.advance();
            p = learnt.parameters[0];
            assert!((f64::from(p) - expected).abs() < 1e-6, "{p} {expected}");
        }
        assert!((f64::from(p) - 0.6988).abs() < 2e-3, "about a tenth a step: {p}");
    }

    #[test]
    fn long_gradients_are_shortened() {
        let mut g = [3.0, -4.0];
        assert_eq!(clip(&mut g, Some(10.0)), 5.0);
        assert_eq!(g, [3.0, -4.0]);
        assert_eq!(clip(&mut g, Some(1.0)), 5.0);
        assert!((g[0] - 0.6).abs() < 1e-6 && (g[1] + 0.8).abs() < 1e-6, "{g:?}");
    }

    #[test]
    fn rates_rise_and_fall() {
        let settings = AdamW { rate: 1.0, warm_up: 4, ..AdamW::default() };
        let rates: Vec<f32> = [0, 3, 4, 8, 12].map(|step| settings.rate_at(step, 12)).to_vec();
        let expected = [0.25, 1.0, 1.0, 0.5, 0.0];
        assert!(rates.iter().zip(expected).all(|(r, e)| (r - e).abs() < 1e-6), "{rates:?}");
        let constant = AdamW { schedule: Schedule::Constant, ..settings };
        assert_eq!(constant.rate_at(11, 12), 1.0);
    }

    #[test]
    fn settings_that_make_no_sense_are_errors() {
        let wrong = [
            AdamW { rate: 0.0, ..AdamW::default() },
            AdamW { rate: f32::NAN, ..AdamW::default() },
            AdamW { betas: [0.9, 1.0], ..AdamW::default() },
            AdamW { eps: 0.0, ..AdamW::default() },
            AdamW { decay: -0.1, ..AdamW::default() },
            AdamW { clip: Some(0.0), ..AdamW::default() },
        ];
        for settings in wrong {
            assert!(Optimiser::new(settings, 0).is_err(), "{settings:?}");
        }
    }

    #[test]
    fn gradients_that_are_no_numbers_change_nothing() {
        let mut learnt = OnHost::new(vec![1.0]);
        learnt.write(Kind::Gradient, &[f32::NAN]).unwrap();
        let update = Optimiser::new(AdamW::default(), 0).unwrap().next(1);
        assert!(pollster::block_on(learnt.update(&update)).unwrap().is_nan());
        assert_eq!(learnt.parameters, [1.0]);
    }
}
