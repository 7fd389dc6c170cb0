//! `nomoat prompt`: the prompt that a model gets for a conversation, and its tokens.

use anyhow::{Context, Result, bail};
use nomoat_runtime::engine::{Message, Variables};
use nomoat_runtime::text::{ChatTemplate, Tokenizer};
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Args {
    /// GGUF file; the first one of a split model.
    model: PathBuf,
    /// The user's message.
    #[arg(short, long, conflicts_with = "messages", required_unless_present = "messages")]
    prompt: Option<String>,
    /// JSON file with a list of messages, as in OpenAI's API.
    #[arg(long)]
    messages: Option<PathBuf>,
    /// JSON file with a list of tools, as in OpenAI's API.
    #[arg(long)]
    tools: Option<PathBuf>,
    /// JSON object with other variables of the template, such as `{"enable_thinking": false}`.
    #[arg(long, value_name = "JSON")]
    kwargs: Option<String>,
    /// A built-in template, such as `vicuna` or `plain`, instead of the file's.
    #[arg(long)]
    template: Option<String>,
    /// Print JSON with `prompt` and `ids`.
    #[arg(long)]
    json: bool,
}

/// Prints the prompt and its token ids.
pub fn print(args: &Args) -> Result<()> {
    let mut headers = super::headers(&super::files(&args.model)?)?;
    let metadata = &mut headers[0].metadata;
    let tokenizer = Tokenizer::from_metadata(metadata)?;
    let template = match &args.template {
        Some(name) => Some(ChatTemplate::named(name, &tokenizer)?),
        None => ChatTemplate::from_metadata(metadata, &tokenizer)?,
    };
    let Some(template) = template else {
        bail!("this is a base model without a chat template: choose one with --template");
    };
    let messages: Vec<Message> = match (&args.messages, &args.prompt) {
        (Some(path), _) => read(path)?,
        (None, prompt) => vec![Message::new("user", prompt.as_deref().unwrap_or_default())],
    };
    let tools = args.tools.as_deref().map(read).transpose()?;
    let other = args.kwargs.as_deref().map(serde_json::from_str).transpose();
    let other = other.context("--kwargs is no JSON object")?.unwrap_or_default();
    let variables = Variables { tools, other, ..Default::default() };
    let messages = template.tool_use().prepare(&messages, variables.tools.as_ref());
    let prompt = template.render(&messages, &variables)?;
    if !args.json {
        // Shown also where it cannot be used, because it lacks the last message.
        println!("{prompt}\n");
    }
    let ids = template.encode_chat(&tokenizer, &messages, &variables)?;
    match args.json {
        true => println!("{}", serde_json::json!({ "prompt": prompt, "ids": ids })),
        false => println!("{ids:?}"),
    }
    Ok(())
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot open {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}
