/**
 * The text with halves of characters, such as half an emoji, replaced: models and files take whole ones only.
 */
export function wellFormed(text: string): string {
  return text.replace(/\p{Surrogate}/gu, "\uFFFD");
}
