/** Stands in for `nomoat` where code of the docs creates an engine: the engine of the page. */
export const createEngine = async () => window.engine;
