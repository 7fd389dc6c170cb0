/** How tests ask `engine.fetch`. */

/** Where `engine.fetch` answers. */
export const BASE = "http://nomoat/v1";
/** A request with this body. */
export const post = (body: unknown, more: RequestInit = {}): RequestInit => ({
  method: "POST",
  headers: { "content-type": "application/json" },
  body: typeof body === "string" ? body : JSON.stringify(body),
  ...more,
});

/** The events of a stream: their names, and their data. */
export async function eventsOf(response: Response): Promise<{ name: string | undefined; data: unknown }[]> {
  const blocks = (await response.text()).split("\n\n").slice(0, -1);
  return blocks.map((block) => {
    const [, name, text] = /^(?:event: (.*)\n)?data: (.*)$/.exec(block) ?? [];
    return { name, data: text === "[DONE]" ? text : JSON.parse(text ?? "") };
  });
}
