//! What is learnt while it is: parameters, their gradient, and AdamW's moments.

use super::optimiser::clip;
use super::{TrainError, Update};
use std::borrow::Cow;

/// A list of numbers, one for each parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// LoRA's matrices, see [`super::Lora::start`].
    Parameters,
    /// Their gradient; after an update as it was clipped.
    Gradient,
    /// The mean of gradients.
    First,
    /// The mean of their squares.
    Second,
}

/// The lists of each [`Kind`], where a device has them.
#[allow(async_fn_in_trait)]
pub trait Learnt {
    /// Sets the gradient to 0.
    fn clear(&mut self);

    /// Clips the gradient, changes parameters and moments and returns the gradient's norm before clipping. If
    /// the norm is not a number or infinite, nothing changes.
    async fn update(&mut self, update: &Update) -> Result<f32, TrainError>;

    /// The numbers of a list.
    async fn read(&self, kind: Kind) -> Result<Cow<'_, [f32]>, TrainError>;

    /// Sets the numbers of a list, which are as many as there are parameters.
    fn write(&mut self, kind: Kind, numbers: &[f32]) -> Result<(), TrainError>;
}

/// An error unless there are as many numbers as there should be.
pub(crate) fn check_length(found: usize, expected: usize) -> Result<(), TrainError> {
    match found == expected {
        true => Ok(()),
        false => Err(TrainError::Setting(format!("{found} numbers in place of {expected} parameters"))),
    }
}

/// In the host's memory.
#[derive(Clone, Debug)]
pub struct OnHost {
    pub(crate) parameters: Vec<f32>,
    pub(crate) gradient: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
}

impl OnHost {
    /// These parameters; the rest is 0.
    pub fn new(parameters: Vec<f32>) -> Self {
        let zeros = || vec![0.0; parameters.len()];
        Self { gradient: zeros(), first: zeros(), second: zeros(), parameters }
    }
}

impl Learnt for OnHost {
    fn clear(&mut self) {
        self.gradient.fill(0.0);
    }

    async fn update(&mut self, update: &Update) -> Result<f32, TrainError> {
        let norm = clip(&mut self.gradient, update.clip);
        if !norm.is_finite() {
            return Ok(norm);
        }
        let Update { betas: [beta1, beta2], rate, decay, root, eps, .. } = *update;
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((p, g), (m, v)) in self.parameters.iter_mut().zip(&self.gradient).zip(moments) {
            *m = beta1 * *m + (1.0 - beta1) * g;
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            *p -= decay * *p + rate * *m / (v.sqrt() / root + eps);
        }
        Ok(norm)
    }

    async fn read(&self, kind: Kind) -> Result<Cow<'_, [f32]>, TrainError> {
        Ok(Cow::Borrowed(match kind {
            Kind::Parameters => &self.parameters,
            Kind::Gradient => &self.gradient,
            Kind::First => &self.first,
            Kind::Second => &self.second,
        }))
    }

    fn write(&mut self, kind: Kind, numbers: &[f32]) -> Result<(), TrainError> {
        let to = match kind {
            Kind::Parameters => &mut self.parameters,
            Kind::Gradient => &mut self.gradient,
            Kind::First => &mut self.first,
            Kind::Second => &mut self.second,
        };
        check_length(numbers.len(), to.len())?;
        to.copy_from_slice(numbers);
        Ok(())
    }
}
