/** 96 random bits as hex. Not `crypto.randomUUID`, which pages without https do not have. */
export function randomId(): string {
  const random = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
