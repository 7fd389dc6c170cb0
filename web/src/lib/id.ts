/**
 * A new identifier. Not crypto.randomUUID: that is missing on insecure addresses, where the page must still
 * say so.
 */
export function newId(): string {
  return Date.now().toString(36) + Math.random().toString(36).slice(2, 10);
}
