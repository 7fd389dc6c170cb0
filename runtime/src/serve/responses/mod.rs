//! `/v1/responses`, answered by chats. Each request has the whole conversation; the items of the last answers
//! are kept for clients that send references to them.

mod builder;
mod input;
mod kept;
#[cfg(test)]
mod tests;

pub use kept::Kept;

use super::Shared;
use super::error::ApiError;
use super::params;
use super::reply::{Kind, Reply, add_call};
use axum::Json;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use builder::Builder;
use futures_util::stream;
use serde_json::Value;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

/// The response that a body asks for.
pub async fn answer(shared: Arc<Shared>, body: &[u8]) -> Result<Response, ApiError> {
    let mut given = params::object(body)?;
    let is_streamed = params::flag(&mut given, "stream")?;
    let chat = input::chat(&given, |id| shared.kept.find(id))?;
    let reply = Reply::new(Kind::Chat, &shared.model, params::chat_of(chat)?, &shared.requests);
    let is_kept = given.get("store") != Some(&Value::Bool(false));
    let kept = is_kept.then(|| shared.clone());
    let builder = Builder::new(&shared.model, &given);
    if is_streamed { streamed(reply, builder, kept).await } else { whole(reply, builder, kept).await }
}

/// The response in one piece. `kept`: who keeps its items.
async fn whole(
    mut reply: Reply,
    mut builder: Builder,
    kept: Option<Arc<Shared>>,
) -> Result<Response, ApiError> {
    let (mut text, mut reasoning, mut calls) = (String::new(), String::new(), Vec::new());
    let mut finish_reason = None;
    while let Some(piece) = reply.next().await? {
        text.push_str(&piece.text);
        reasoning.push_str(&piece.reasoning);
        piece.calls.into_iter().for_each(|call| add_call(&mut calls, call));
        finish_reason = piece.end.map(|end| end.finish_reason);
    }
    let response = builder.whole(text, reasoning, &calls, finish_reason, reply.counts());
    if let Some(shared) = kept {
        shared.kept.keep(&response);
    }
    Ok(Json(response).into_response())
}

/// Its events. The first step is awaited before, so that a wrong request is answered with its status.
async fn streamed(
    mut reply: Reply,
    mut builder: Builder,
    kept: Option<Arc<Shared>>,
) -> Result<Response, ApiError> {
    let first = reply.next().await?;
    let mut waiting = VecDeque::from(builder.begin());
    let mut is_over = false;
    if let Some(piece) = first {
        is_over = piece.end.is_some();
        waiting.extend(builder.add(piece, reply.counts()));
    }
    let events = stream::unfold((reply, builder, waiting, is_over), move |state| {
        let kept = kept.clone();
        async move {
            let (mut reply, mut builder, mut waiting, mut is_over) = state;
            while waiting.is_empty() && !is_over {
                match reply.next().await {
                    Ok(Some(piece)) => {
                        is_over = piece.end.is_some();
                        waiting.extend(builder.add(piece, reply.counts()));
                    }
                    Ok(None) => is_over = true,
                    Err(error) => {
                        is_over = true;
                        waiting.push_back(builder.fail(&error));
                    }
                }
            }
            let event = waiting.pop_front()?;
            // Before the client knows that it is complete.
            if let (Some(shared), true, Some(response)) = (kept, waiting.is_empty(), event.get("response")) {
                shared.kept.keep(response);
            }
            let name = event["type"].as_str().unwrap_or_default();
            let sent = Event::default().event(name).data(event.to_string());
            Some((Ok::<_, Infallible>(sent), (reply, builder, waiting, is_over)))
        }
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}
