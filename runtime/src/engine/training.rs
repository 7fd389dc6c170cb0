//! Teaching the loaded model, over the weights that it answers with.

use super::{Device, DeviceModel, Engine, Error};
use crate::train::{Advance, Settings, Student, Teaches, Texts, TrainingRun};

impl<D> Engine<D>
where
    D: Device + Teaches,
    D::Model: AsRef<D::Weights>,
{
    /// Begins to teach from examples as JSONL. Nothing is computed yet.
    pub fn begin_training(
        &self,
        device: &D,
        settings: Settings,
        data: String,
    ) -> Result<TrainingRun<D::Learnt>, Error> {
        Ok(TrainingRun::new(device, self.student()?, settings, data)?)
    }

    /// Goes on from what [`TrainingRun::checkpoint`] gave.
    pub fn resume_training(&self, device: &D, checkpoint: &[u8]) -> Result<TrainingRun<D::Learnt>, Error> {
        Ok(TrainingRun::resume(device, self.student()?, checkpoint)?)
    }

    /// Computes the next part of a run.
    pub async fn advance_training(
        &self,
        device: &D,
        run: &mut TrainingRun<D::Learnt>,
    ) -> Result<Advance, Error> {
        let (graph, kept_bytes) = (run.graph(), run.kept_bytes());
        let mut training = device.training(run.learnt(), &graph, self.model.as_ref(), kept_bytes)?;
        Ok(run.advance(&mut training).await?)
    }

    fn student(&self) -> Result<Student<'_>, Error> {
        let template = self.template.as_ref().ok_or_else(|| {
            Error::InvalidRequest("this is a base model without a chat template; it cannot be taught".into())
        })?;
        Ok(Student {
            name: &self.info.name,
            architecture: &self.info.architecture,
            graph: self.model.graph(),
            texts: Texts { template, tokenizer: &self.tokenizer },
            context_length: self.info.context_length,
        })
    }
}
