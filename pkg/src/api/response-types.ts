/** OpenAI's `responses`: the types of requests, responses and events. */
import type { CompletionOptions } from "../chat.js";

/** A message of the input. */
export interface ResponseInputMessage {
  type?: "message";
  role: "system" | "developer" | "user" | "assistant";
  content: string | { type: "input_text" | "output_text"; text: string }[];
}

/** A call of a tool: an item of the output, and of the next input. */
export interface ResponseFunctionCall {
  type: "function_call";
  id?: string;
  /** Names the call in its result. */
  call_id: string;
  name: string;
  /** JSON. */
  arguments: string;
  status?: "in_progress" | "completed" | "incomplete";
}

/** What a tool returned: an item of the input. */
export interface ResponseFunctionCallOutput {
  type: "function_call_output";
  call_id: string;
  output: string;
}

/** A tool that the model may call. */
export interface ResponseFunctionTool {
  type: "function";
  name: string;
  description?: string | null;
  /** The JSON Schema of the arguments. */
  parameters?: Record<string, unknown> | null;
  /** Calls fit the schema, also where the model decides whether to call. Default false. */
  strict?: boolean | null;
}

/** Whether the model must call a tool, or may not. */
export type ResponseToolChoice = "auto" | "none" | "required" | { type: "function"; name: string };

/** What kind of text an answer is: as `response_format` of a chat, but with the schema one level higher. */
export type ResponseTextFormat =
  | { type: "text" | "json_object" }
  | { type: "json_schema"; name: string; schema: Record<string, unknown>; strict?: boolean | null };

/** Parameters of `responses.create`. */
export interface ResponseCreateParams {
  /** The question, or the conversation so far. */
  input:
    | string
    | (
        | ResponseInputMessage
        | ResponseFunctionCall
        | ResponseFunctionCallOutput
        | ResponseItemReference
        | (Pick<ResponseReasoning, "type"> & Partial<ResponseReasoning>)
      )[];
  /** A system message before the input. */
  instructions?: string | null;
  /** Accepted and not used: an engine has one model. */
  model?: string;
  stream?: boolean | null;
  /** Most tokens to generate. Default: until the context is full. */
  max_output_tokens?: number | null;
  /** 0 (always the likeliest token) to 2. Default 1. */
  temperature?: number | null;
  /** Above 0, to 1. Default 1. */
  top_p?: number | null;
  /** Extension: makes sampling repeatable; an integer from 0. */
  seed?: number | null;
  /** `auto`: the oldest turns are left out where the context has no room. Default: the engine's. */
  truncation?: "auto" | "disabled" | null;
  /** The tools that the model may call. */
  tools?: ResponseFunctionTool[] | null;
  /** `required`, or a tool: the answer is a call, which fits the tool's schema. Default `auto`. */
  tool_choice?: ResponseToolChoice | null;
  /** Whether the model may call several tools in one answer. Default true. */
  parallel_tool_calls?: boolean | null;
  /** How much the model thinks, such as "low"; for chat templates that know it. */
  reasoning?: { effort?: string | null } | null;
  /** Whether the answer's items may be referred to later. Default true. */
  store?: boolean | null;
  /** Whether the answer must be JSON. */
  text?: { format?: ResponseTextFormat | null } | null;
  /** Strings of your own, returned with the response. */
  metadata?: Record<string, string> | null;
}

/** Parameters of a streamed response. */
export type ResponseStreamParams = ResponseCreateParams & { stream: true };
/** Parameters of a response in one piece. */
export type ResponseWholeParams = ResponseCreateParams & { stream?: false | null };

/** A piece of an answer's content. */
export interface ResponseOutputText {
  type: "output_text";
  text: string;
  annotations: never[];
  logprobs: never[];
}

/** The answer as an item of the output. */
export interface ResponseOutputMessage {
  type: "message";
  id: string;
  role: "assistant";
  status: "in_progress" | "completed" | "incomplete";
  content: [ResponseOutputText];
}

/** What the model thought before it answered, as an item of the output. */
export interface ResponseReasoning {
  type: "reasoning";
  id: string;
  status: "in_progress" | "completed" | "incomplete";
  /** Thoughts are not summarised. */
  summary: never[];
  content: [{ type: "reasoning_text"; text: string }];
}

/** An item of the output. */
export type ResponseOutputItem =
  ResponseReasoning | ResponseOutputMessage | (ResponseFunctionCall & { id: string });

/** Stands for an item of one of the last answers. */
export interface ResponseItemReference {
  type: "item_reference";
  id: string;
}

/** Token counts. */
export interface ResponseUsage {
  input_tokens: number;
  input_tokens_details: { cached_tokens: number };
  output_tokens: number;
  output_tokens_details: { reasoning_tokens: number };
  total_tokens: number;
}

/** A response. */
export interface ModelResponse {
  id: string;
  object: "response";
  /** Seconds since 1970. */
  created_at: number;
  model: string;
  status: "in_progress" | "completed" | "incomplete" | "failed";
  error: { code: string; message: string } | null;
  incomplete_details: { reason: "max_output_tokens" } | null;
  instructions: string | null;
  max_output_tokens: number | null;
  metadata: Record<string, string>;
  output: ResponseOutputItem[];
  parallel_tool_calls: boolean;
  previous_response_id: null;
  temperature: number | null;
  text: { format: ResponseTextFormat };
  tool_choice: ResponseToolChoice;
  tools: ResponseFunctionTool[];
  top_p: number | null;
  usage: ResponseUsage | null;
}

/** An event without its number. */
export type EventBody =
  | {
      type: `response.${"created" | "in_progress" | "completed" | "incomplete" | "failed"}`;
      response: ModelResponse;
    }
  | { type: `response.output_item.${"added" | "done"}`; output_index: number; item: ResponseOutputItem }
  | { type: "response.function_call_arguments.delta"; item_id: string; output_index: number; delta: string }
  | {
      type: "response.function_call_arguments.done";
      item_id: string;
      output_index: number;
      name: string;
      arguments: string;
    }
  | ({
      type: `response.content_part.${"added" | "done"}`;
      part: ResponseOutputText | ResponseReasoning["content"][0];
    } & Place)
  | ({ type: "response.reasoning_text.delta"; delta: string } & Place)
  | ({ type: "response.reasoning_text.done"; text: string } & Place)
  | ({ type: "response.output_text.delta"; delta: string; logprobs: never[] } & Place)
  | ({ type: "response.output_text.done"; text: string; logprobs: never[] } & Place);

/** Where a piece of text belongs. */
export interface Place {
  item_id: string;
  output_index: number;
  content_index: 0;
}

/** An event of a streamed response. */
export type ResponseStreamEvent = EventBody & { sequence_number: number };

/** OpenAI's `responses`. */
export interface Responses {
  /** A streamed response; resolves when its generation starts. */
  create(
    params: ResponseStreamParams,
    options?: CompletionOptions,
  ): Promise<AsyncIterable<ResponseStreamEvent>>;
  /** A response in one piece. */
  create(params: ResponseWholeParams, options?: CompletionOptions): Promise<ModelResponse>;
  create(
    params: ResponseCreateParams,
    options?: CompletionOptions,
  ): Promise<AsyncIterable<ResponseStreamEvent> | ModelResponse>;
}
