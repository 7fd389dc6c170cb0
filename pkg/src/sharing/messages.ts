/** What tabs and service workers of one origin say to each other about the engine that they share. */

/** A request of a client. It is sent again when another tab has taken over. */
export interface Ask {
  kind: "ask";
  id: string;
  /** The lock that the client holds as long as it lives. */
  client: string;
  url: string;
  method: string;
  headers: [string, string][];
  body: string | null;
}

/** An answer's parts. Clients pass over the chunks that they already have from an earlier owner. */
export type Part = { id: string } & (
  | { kind: "head"; status: number; headers: [string, string][] }
  | { kind: "chunk"; index: number; bytes: Uint8Array<ArrayBuffer> }
  | { kind: "end" }
  | { kind: "failed"; message: string }
);

/** A message on the channel. `ready`: the sender owns an engine from now on. */
export type SharingMessage = { kind: "ready" } | Ask | { kind: "abort"; id: string } | Part;

/** Names of the channel and of the lock that the owner holds. */
export const nameOf = (name: string) => `nomoat:${name}`;
