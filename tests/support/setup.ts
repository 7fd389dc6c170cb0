/** Before all tests: checks that everything they need exists. If not, the error says what to do. */
import { places } from "./places.ts";

export default function setup(): void {
  void [
    places.chromium,
    places.firefox,
    places.model,
    places.tarball,
    places.page,
    places.package,
    places.program,
    places.golden,
  ];
}
