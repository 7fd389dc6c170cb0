/** Tools and questions for them, which a real model answers by calls. */
import type { ChatTool } from "nomoat";

const object = (properties: Record<string, object>, required = Object.keys(properties)) => ({
  type: "object",
  properties,
  required,
  additionalProperties: false,
});

const tool = (name: string, description: string, parameters: Record<string, unknown>): ChatTool => ({
  type: "function",
  function: { name, description, parameters },
});

const text = (description: string) => ({ type: "string", description, maxLength: 60 });

/** Their schemas have what JSON Schemas of tools usually have. */
export const TOOLS = [
  tool(
    "get_weather",
    "Weather forecast for a city",
    object({
      city: text("The name of the city"),
      days: { type: "integer", minimum: 1, maximum: 7 },
      unit: { enum: ["celsius", "fahrenheit"] },
    }),
  ),
  tool(
    "send_email",
    "Send an email",
    object({
      to: { type: "array", items: text("A name"), minItems: 1, maxItems: 3 },
      subject: text("The subject"),
      urgent: { type: "boolean" },
    }),
  ),
  tool(
    "add_event",
    "Add an event to the calendar",
    object({
      title: text("What it is"),
      date: { type: "string", format: "date" },
      place: object({ room: text("The room"), floor: { type: "integer", minimum: 0, maximum: 99 } }),
    }),
  ),
  tool(
    "convert_currency",
    "Convert an amount of money",
    object({
      amount: { type: "number", minimum: 0 },
      from: { type: "string", pattern: "^[A-Z]{3}$" },
      to: { type: "string", pattern: "^[A-Z]{3}$" },
    }),
  ),
  tool(
    "set_light",
    "Set a lamp's brightness or colour",
    object(
      {
        lamp: text("The room of the lamp"),
        brightness: { type: "integer", minimum: 0, maximum: 100 },
        colour: { anyOf: [{ enum: ["red", "green", "blue", "white"] }, { type: "null" }] },
      },
      ["lamp", "brightness"],
    ),
  ),
];

/** Twenty questions, each with the tool that a person would use. */
export const QUESTIONS: [tool: string, question: string][] = [
  ["get_weather", "What is the weather in Paris for the next 3 days, in celsius?"],
  ["get_weather", "Will it rain in Tokyo tomorrow? Use celsius."],
  ["get_weather", "Give me the forecast for Boston for a week in fahrenheit."],
  ["get_weather", "How warm will it be in Cairo today?"],
  ["send_email", "Send Anna an urgent email with the subject 'Server is down'."],
  ["send_email", "Write to Bob and Carol about lunch on Friday. It is not urgent."],
  ["send_email", "Email Dmitri: the subject is 'Thank you'."],
  ["send_email", "Tell Erika and Felix by email that the meeting is cancelled, urgently."],
  ["add_event", "Put a team meeting on 2025-03-14 in room Mercury on floor 2 into my calendar."],
  ["add_event", "Add the event 'Dentist' on 2025-06-01, room 12, ground floor (0)."],
  ["add_event", "Schedule a design review for 2026-01-20 in room Venus, floor 5."],
  ["add_event", "New calendar event: birthday party, 2025-12-31, the kitchen on floor 1."],
  ["convert_currency", "How many euros (EUR) are 100 US dollars (USD)?"],
  ["convert_currency", "Convert 2500 JPY to GBP."],
  ["convert_currency", "I have 49.90 CHF. What is that in SEK?"],
  ["convert_currency", "Change 1 GBP into USD."],
  ["set_light", "Turn the lamp in the kitchen to full brightness, 100."],
  ["set_light", "Make the bedroom light red at 20 percent."],
  ["set_light", "Switch off the light in the hall (brightness 0)."],
  ["set_light", "Set the office lamp to blue, half bright (50)."],
];
