//! Teaching the loaded model, over the weights that it answers with.

use super::{DeviceModel, Engine, Error};
use crate::cpu::Cpu;
use crate::cpu::train::Training;
use crate::train::{Advance, Settings, Student, Texts, TrainingRun};

impl Engine<Cpu> {
    /// Begins to teach from examples as JSONL. Nothing is computed yet.
    pub fn begin_training(&self, settings: Settings, data: String) -> Result<TrainingRun, Error> {
        Ok(TrainingRun::new(self.student()?, settings, data)?)
    }

    /// Goes on from what [`TrainingRun::checkpoint`] gave.
    pub fn resume_training(&self, checkpoint: &[u8]) -> Result<TrainingRun, Error> {
        Ok(TrainingRun::resume(self.student()?, checkpoint)?)
    }

    /// Computes the next part of a run.
    pub fn advance_training(&self, cpu: &Cpu, run: &mut TrainingRun) -> Result<Advance, Error> {
        let (graph, kept_bytes) = (run.graph(), run.kept_bytes());
        let mut training = Training::new(cpu, &graph, self.model.weights(), kept_bytes)?;
        Ok(run.advance(&mut training)?)
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
