// Our view of a derived run in Tiled's own pages: their `spec_views` setting names this file for the spec PowderRun.
// Tiled loads it as a classic script, so the modules are imported from here; it gives React, and nothing to build with.

(() => {
  const base = new URL(".", document.currentScript.src);
  const { createElement, useEffect, useRef, useState } = window.React;

  const once = (make) => {
    let made = null;
    return () => (made ??= make());
  };

  const load = once(async () => {
    for (const name of ["uPlot.min.css", "powder.css"]) {
      const link = Object.assign(document.createElement("link"), { rel: "stylesheet", href: new URL(name, base).href });
      document.head.append(link);
    }
    if (!window.uPlot) {
      await new Promise((done, failed) => {
        const script = Object.assign(document.createElement("script"), { src: new URL("uPlot.iife.min.js", base).href });
        [script.onload, script.onerror] = [done, failed];
        document.head.append(script);
      });
    }
    return Promise.all([import(new URL("view.js", base).href), import(new URL("api.js", base).href)]);
  });

  function PowderView({ segments }) {
    const place = useRef(null);
    const path = segments.join("/");
    const [links, setLinks] = useState(null);
    useEffect(() => {
      let view = null;
      let left = false;
      load().then(
        ([{ RunView }, api]) => {
          if (left) return;
          view = new RunView(place.current, path, { headed: false });
          window.__powder = view;
          setLinks({ page: api.runAddress(path), child: (name) => api.uiAddress(`${path}/${name}`) });
        },
        () => !left && setLinks({ failed: true }),
      );
      return () => {
        left = true;
        view?.close();
      };
    }, [path]);
    // The built-in listing gives way to this view, so the streams are to be reached from here.
    const below = links?.failed
      ? createElement("p", null, "The view of powder runs could not be loaded.")
      : links &&
        createElement(
          "p",
          { className: "powder-links" },
          createElement("a", { href: links.page }, "On a page of its own"),
          ...["axes", "primary", "cumulative", "merged"].flatMap((name) => [
            " · ",
            createElement("a", { key: name, href: links.child(name) }, name),
          ]),
        );
    return createElement("div", null, createElement("div", { ref: place, key: "view" }), below);
  }

  window.__TILED_SPEC_VIEWS__ = { ...window.__TILED_SPEC_VIEWS__, PowderRun: PowderView };
})();
