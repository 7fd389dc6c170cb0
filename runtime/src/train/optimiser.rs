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

/// What AdamW keeps from step to step.
#[derive(Clone, Debug)]
pub struct Optimiser {
    settings: AdamW,
    /// The mean of gradients.
    first: Vec<f32>,
    /// The mean of their squares.
    second: Vec<f32>,
    /// Steps so far.
    step: usize,
}

impl Optimiser {
    /// For so many parameters.
    pub fn new(settings: AdamW, n_parameters: usize) -> Result<Self, TrainError> {
        settings.check()?;
        Ok(Self { settings, first: vec![0.0; n_parameters], second: vec![0.0; n_parameters], step: 0 })
    }

    /// As it was after so many steps, with its [`Self::moments`].
    pub fn resume(settings: AdamW, [first, second]: [Vec<f32>; 2], step: usize) -> Result<Self, TrainError> {
        settings.check()?;
        if first.len() != second.len() {
            return Err(TrainError::Setting("the moments of the optimiser differ in length".into()));
        }
        Ok(Self { settings, first, second, step })
    }

    /// The means of gradients and of their squares.
    pub fn moments(&self) -> [&[f32]; 2] {
        [&self.first, &self.second]
    }

    /// Steps so far.
    pub fn steps(&self) -> usize {
        self.step
    }

    /// Clips the gradient, changes the parameters and returns the gradient's norm before clipping. `steps` is
    /// how many there will be in all.
    pub fn step(
        &mut self,
        parameters: &mut [f32],
        gradient: &mut [f32],
        steps: usize,
    ) -> Result<f32, TrainError> {
        let norm = clip(gradient, self.settings.clip);
        if !norm.is_finite() {
            return Err(TrainError::Diverged);
        }
        let AdamW { betas: [beta1, beta2], eps, decay, .. } = self.settings;
        let rate = self.settings.rate_at(self.step, steps);
        self.step += 1;
        let t = self.step.min(i32::MAX as usize) as i32;
        let rate1 = (f64::from(rate) / (1.0 - f64::from(beta1).powi(t))) as f32;
        let root2 = (1.0 - f64::from(beta2).powi(t)).sqrt() as f32;
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((p, g), (m, v)) in parameters.iter_mut().zip(gradient.iter()).zip(moments) {
            *m = beta1 * *m + (1.0 - beta1) * g;
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            *p -= rate * decay * *p + rate1 * *m / (v.sqrt() / root2 + eps);
        }
        Ok(norm)
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

    /// Three steps on f(p) = p² / 2 from 1, as `torch.optim.AdamW(lr=0.1, weight_decay=0.01)` takes them: the
    /// first moves by the rate times the gradient's sign, and by the decay.
    #[test]
    fn steps_are_those_of_the_formula() {
        let settings =
            AdamW { rate: 0.1, decay: 0.01, clip: None, schedule: Schedule::Constant, ..AdamW::default() };
        let mut optimiser = Optimiser::new(settings, 1).unwrap();
        let (mut p, mut m, mut v) = ([1.0_f32], 0.0_f64, 0.0_f64);
        let mut expected = 1.0_f64;
        for t in 1..=3 {
            let mut g = p;
            m = 0.9 * m + 0.1 * expected;
            v = 0.999 * v + 0.001 * expected * expected;
            let (mean, square) = (m / (1.0 - 0.9_f64.powi(t)), v / (1.0 - 0.999_f64.powi(t)));
            expected -= 0.1 * 0.01 * expected + 0.1 * mean / (square.sqrt() + 1e-8);
            optimiser.step(&mut p, &mut g, 3).unwrap();
            assert!((f64::from(p[0]) - expected).abs() < 1e-6, "{} {expected}", p[0]);
        }
        assert!((f64::from(p[0]) - 0.6988).abs() < 2e-3, "about a tenth a step: {}", p[0]);
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
            assert!(Optimiser::new(settings, 1).is_err(), "{settings:?}");
        }
        let mut optimiser = Optimiser::new(AdamW::default(), 1).unwrap();
        let result = optimiser.step(&mut [1.0], &mut [f32::NAN], 1);
        assert_eq!(result, Err(TrainError::Diverged));
    }
}
