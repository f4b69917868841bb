"""Live powder diffraction for Bluesky: frames in as documents, patterns and spottiness out as documents."""
