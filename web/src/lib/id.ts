/**
 * A new identifier. Not crypto.randomUUID, which insecure addresses do not have: there the page must still
 * run to say what is wrong.
 */
export function newId(): string {
  return Date.now().toString(36) + Math.random().toString(36).slice(2, 10);
}
