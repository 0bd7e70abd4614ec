"""What the tests share: real servers, a fake wire, builders."""
