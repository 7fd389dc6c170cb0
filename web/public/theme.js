// Runs before the first paint, so that a chosen theme does not flash the other one. The key is that of
// src/state/settings.ts.
try {
  const { theme } = JSON.parse(localStorage.getItem("nomoat-settings") ?? "{}");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // No storage: the system's theme.
}
