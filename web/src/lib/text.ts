/**
 * Replaces lone surrogates, such as half an emoji, which are not valid text.
 */
export function wellFormed(text: string): string {
  return text.replace(/\p{Surrogate}/gu, "\uFFFD");
}
